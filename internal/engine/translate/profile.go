package translate

import (
	"fmt"
	"io"
	"os"
)

// maxProfile bounds a seccomp profile, in bytes; Docker's own has 15 KB.
const maxProfile = 1 << 20

// ReadProfile reads a seccomp profile of this node, see Host. What is no regular file
// is refused, as it might have no end.
func ReadProfile(name string) ([]byte, error) {
	stat, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxProfile+1))
	if err == nil && len(text) > maxProfile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxProfile)
	}
	return text, err
}
