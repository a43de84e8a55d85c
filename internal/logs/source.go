package logs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	logsDirectory = "local-logs"
	newestName    = "container.log"
	// headSize is less than the shortest entry, and holds the time of the first one.
	headSize = 24
	// listTries bounds how often a listing is repeated that a rotation runs into.
	listTries = 20
)

// place is a place in the engine's files of one container: everything before it was
// read. The zero place is before the oldest file.
type place struct {
	Ino    uint64 `json:"ino,omitempty"`
	Head   string `json:"head,omitempty"` // first bytes of the file in hex, as inode numbers are used again
	Offset int64  `json:"offset,omitempty"`
}

// source is the engine's log files of one container. The engine appends to
// container.log; once that is large enough it is renamed to container.log.1, and so on,
// up to a number at which it is removed.
type source struct {
	directory string
	file      *os.File // that at is in, nil before it was found
	at        place
	rotated   bool // file was seen to have another name: nothing is appended any more
}

// logFile is one of the files, as listed.
type logFile struct {
	ino  uint64
	path string
}

// list returns the files, oldest first.
func (s *source) list() ([]logFile, error) {
	files, err := s.listOnce()
	for range listTries {
		if err != nil {
			return nil, err
		}
		before := files
		// In the middle of a rotation one file can be met under two names, or none.
		if files, err = s.listOnce(); slices.Equal(before, files) {
			return files, err
		}
	}
	return nil, fmt.Errorf("list %s: it changes all the time", s.directory)
}

func (s *source) listOnce() ([]logFile, error) {
	entries, err := os.ReadDir(s.directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ages := map[string]int{}
	var files []logFile
	for _, entry := range entries {
		age, ok := fileAge(entry.Name())
		if !ok {
			continue
		}
		path := filepath.Join(s.directory, entry.Name())
		stat, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ages[path] = age
		files = append(files, logFile{identify(stat).Ino, path})
	}
	slices.SortFunc(files, func(a, b logFile) int { return ages[b.path] - ages[a.path] })
	return files, nil
}

// fileAge returns how often the file of this name was rotated.
func fileAge(name string) (int, bool) {
	if name == newestName {
		return 0, true
	}
	number, ok := strings.CutPrefix(name, newestName+".")
	if !ok {
		return 0, false
	}
	age, err := strconv.Atoi(number)
	return age, err == nil && age > 0
}

// open finds the file that s.at is in; false means that there is none yet. errGone means
// that the engine removed it: s is at the beginning of the oldest file then.
func (s *source) open() (bool, error) {
	if s.file != nil {
		return true, nil
	}
	files, err := s.list()
	if err != nil || len(files) == 0 {
		return false, err
	}
	if s.at.Ino == 0 {
		return s.enter(files[0])
	}
	for _, candidate := range files {
		if candidate.ino != s.at.Ino {
			continue
		}
		wanted := s.at
		if ok, err := s.enter(candidate); err != nil || !ok {
			return false, err
		}
		if s.at.Head == wanted.Head {
			s.at.Offset = wanted.Offset
			return true, nil
		}
	}
	if ok, err := s.enter(files[0]); err != nil || !ok {
		return false, err
	}
	return true, errGone
}

// enter goes to the beginning of a file; false means that nothing can be read there yet.
func (s *source) enter(listed logFile) (bool, error) {
	file, err := os.Open(listed.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // rotated meanwhile
	}
	if err != nil {
		return false, err
	}
	stat, err := file.Stat()
	if err != nil || identify(stat).Ino != listed.ino {
		return false, errors.Join(err, file.Close())
	}
	head := make([]byte, headSize)
	if _, err := file.ReadAt(head, 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return false, errors.Join(err, file.Close())
	}
	s.close()
	s.file, s.at, s.rotated = file, place{Ino: listed.ino, Head: hex.EncodeToString(head)}, false
	return true, nil
}

// read fills text from s.at on, which stays.
func (s *source) read(text []byte) (int, error) {
	n, err := s.file.ReadAt(text, s.at.Offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// closed tells whether the engine appends to the file no more. Only what is read after
// this told so is all of it.
func (s *source) closed() (bool, error) {
	if s.rotated {
		return true, nil
	}
	stat, err := os.Lstat(filepath.Join(s.directory, newestName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	// Between two steps of a rotation there is none of that name.
	return err != nil || identify(stat).Ino != s.at.Ino, nil
}

// next goes to the file after a closed one; false means that there is none yet. errGone
// means that files in between may have been removed.
func (s *source) next() (bool, error) {
	files, err := s.list()
	if err != nil || len(files) == 0 {
		return false, err
	}
	index := slices.IndexFunc(files, func(f logFile) bool { return f.ino == s.at.Ino })
	if index == len(files)-1 {
		return false, nil
	}
	if ok, err := s.enter(files[index+1]); err != nil || !ok {
		return false, err
	}
	if index < 0 {
		return true, errGone
	}
	return true, nil
}

// behind returns how many bytes of the file are not read.
func (s *source) behind() (int64, error) {
	stat, err := s.file.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size() - s.at.Offset, nil
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
		s.file = nil
	}
}

func identify(stat fs.FileInfo) fileID {
	sys := stat.Sys().(*syscall.Stat_t)
	return fileID{Dev: uint64(sys.Dev), Ino: sys.Ino} //nolint:unconvert // Dev is of another type elsewhere
}
