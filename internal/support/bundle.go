package support

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// largest is how much of one file there is at most: its end.
const largest = 4 << 20

// partLimit is how long one part may take: on a node that is ill, some hang.
const partLimit = 30 * time.Second

// A Part is one file of the bundle.
type Part struct {
	Name  string // within the bundle
	Write func(ctx context.Context, w io.Writer) error
}

// Files are parts of the files of a directory and those below it; the pattern is for a
// file's name. What is no regular file is left out. A directory that is missing has none.
func Files(name, dir, pattern string) ([]Part, error) {
	var parts []Part
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		matches, err := path.Match(pattern, entry.Name())
		if err != nil || !matches || !entry.Type().IsRegular() {
			return err
		}
		inside, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		parts = append(parts, File(path.Join(name, filepath.ToSlash(inside)), file))
		return nil
	})
	return parts, err
}

// File is a part of the end of a file.
func File(name, file string) Part {
	return Part{Name: name, Write: func(_ context.Context, w io.Writer) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		stat, err := f.Stat()
		if err != nil {
			return err
		}
		if stat.Size() > largest {
			if _, err := f.Seek(-largest, io.SeekEnd); err != nil {
				return err
			}
		}
		_, err = io.Copy(w, io.LimitReader(f, largest))
		return err
	}}
}

// Bundle writes parts as a compressed archive, in a directory of the given name, each
// without secrets. What a part could not tell is in errors.txt, and is no error: a bundle
// is for nodes where not all is well.
func Bundle(ctx context.Context, w io.Writer, dir string, now time.Time, parts []Part) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	var failed strings.Builder
	for _, part := range parts {
		var b bytes.Buffer
		if err := within(ctx, part, &b); err != nil {
			fmt.Fprintf(&failed, "%s: %v\n", part.Name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := add(archive, path.Join(dir, part.Name), now, Redact(lastLines(b.Bytes()))); err != nil {
			return err
		}
	}
	if failed.Len() > 0 {
		if err := add(archive, path.Join(dir, "errors.txt"), now, Redact([]byte(failed.String()))); err != nil {
			return err
		}
	}
	return cmp.Or(archive.Close(), zipped.Close())
}

func within(ctx context.Context, part Part, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, partLimit)
	defer cancel()
	return part.Write(ctx, w)
}

// lastLines cuts text that is too large at the beginning of a line.
func lastLines(text []byte) []byte {
	if len(text) < largest {
		return text
	}
	text = text[len(text)-largest:]
	return text[bytes.IndexByte(text, '\n')+1:]
}

func add(archive *tar.Writer, name string, now time.Time, text []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), ModTime: now, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := archive.Write(text)
	return err
}
