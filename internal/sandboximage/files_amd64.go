package sandboximage

import "embed"

//go:embed all:rootfs/amd64
var files embed.FS
