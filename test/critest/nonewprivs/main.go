// Nonewprivs says as whom it runs, which critest compares with what a set-user-ID bit
// should have made of it.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Printf("Effective uid: %d\n", os.Geteuid()) }
