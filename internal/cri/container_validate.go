package cri

import (
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// validateContainer refuses what no engine could honour, with the name of the field. What
// depends on the engine is left to the engine's translation.
func validateContainer(config *cri.ContainerConfig) error {
	if config == nil {
		return invalid("config", "missing; give a ContainerConfig")
	}
	name := config.GetMetadata().GetName()
	if name == "" {
		return invalid("config.metadata.name", "missing; a container is known by its metadata")
	}
	if len(name) > metadataBytes {
		return invalid("config.metadata.name", "%d bytes long; Kubernetes and MasCRI take %d", len(name), metadataBytes)
	}
	if config.GetImage().GetImage() == "" {
		return invalid("config.image.image", "missing")
	}
	return validateTexts(map[string]map[string]string{"labels": config.GetLabels(), "annotations": config.GetAnnotations()})
}
