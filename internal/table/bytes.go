package table

import "fmt"

// Bytes is a number of bytes in three digits and a unit.
func Bytes(n uint64) string {
	value, units := float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	for i, unit := range units {
		if value < 999.5 || i == len(units)-1 {
			if i == 0 || value >= 99.95 {
				return fmt.Sprintf("%.0f %s", value, unit)
			}
			return fmt.Sprintf("%.1f %s", value, unit)
		}
		value /= 1000
	}
	return ""
}
