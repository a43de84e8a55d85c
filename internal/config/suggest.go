package config

import (
	"fmt"
	"strings"
)

// unknownKey is the message for a key, or a section, that does not exist.
func unknownKey(key string) string {
	if near := nearest(key); near != "" {
		return fmt.Sprintf("unknown key %q: did you mean %q?", key, near)
	}
	return fmt.Sprintf("unknown key %q: \"mascri config default\" prints all there are", key)
}

// nearest returns the key or section that was probably meant, "" where none is
// near. A key under the wrong section counts as near.
func nearest(key string) string {
	last := key[strings.LastIndex(key, ".")+1:]
	best, bestDistance := "", 3
	for _, o := range options() {
		section, name, ok := strings.Cut(o.key, ".")
		if !ok {
			name = section
		}
		if name == last {
			return o.key
		}
		for _, candidate := range []string{o.key, section} {
			if d := distance(key, candidate); d < bestDistance {
				best, bestDistance = candidate, d
			}
		}
	}
	return best
}

// distance counts the bytes to insert, remove or replace between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
