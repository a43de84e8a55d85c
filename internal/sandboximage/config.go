package sandboximage

// imageConfig is the part of the OCI image configuration that this image needs.
type imageConfig struct {
	Architecture string          `json:"architecture"`
	OS           string          `json:"os"`
	Config       containerConfig `json:"config"`
	RootFS       rootFS          `json:"rootfs"`
}

type containerConfig struct {
	Entrypoint []string
	Env        []string
	Labels     map[string]string
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// newImageConfig describes an image of one layer, whose hex digest is layer. It
// names no user: what the pod says holds, and any user can run it.
func newImageConfig(arch, layer string) imageConfig {
	return imageConfig{
		Architecture: arch,
		OS:           "linux",
		Config: containerConfig{
			Entrypoint: []string{"/pause"},
			Env:        []string{"PATH=/bin"},
			Labels: map[string]string{
				"org.opencontainers.image.title":    "MasCRI sandbox",
				"org.opencontainers.image.source":   "https://github.com/mascri/mascri",
				"org.opencontainers.image.licenses": "Apache-2.0 AND BSD-3-Clause",
			},
		},
		RootFS: rootFS{Type: "layers", DiffIDs: []string{"sha256:" + layer}},
	}
}
