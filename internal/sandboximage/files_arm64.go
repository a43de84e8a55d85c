package sandboximage

import "embed"

//go:embed all:rootfs/arm64
var files embed.FS
