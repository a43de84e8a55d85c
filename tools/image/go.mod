module github.com/mascri/mascri/tools/image

go 1.26.0

tool github.com/u-root/u-root/cmds/core/ip

require (
	github.com/u-root/u-root v0.16.0 // indirect
	github.com/vishvananda/netlink v1.3.0 // indirect
	github.com/vishvananda/netns v0.0.4 // indirect
	golang.org/x/sys v0.41.0 // indirect
)
