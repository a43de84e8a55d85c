package cri

import (
	"fmt"
	"slices"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// imageName returns what the engine is asked for by spec, which stands in the field.
// Nothing but the image and the runtime handler says which one: annotations are free text
// (those of the pod), and the rest tells where the request comes from.
func (s *Server) imageName(field string, spec *cri.ImageSpec) (string, error) {
	if err := s.validateImageSpec(field, spec); err != nil {
		return "", err
	}
	name, err := pod.ImageName(spec.GetImage())
	if err != nil {
		return "", fmt.Errorf("%s.image: %w", field, err)
	}
	return name, nil
}

// validateImageSpec refuses a runtime handler that the engine does not have. All handlers
// use the same images.
func (s *Server) validateImageSpec(field string, spec *cri.ImageSpec) error {
	if spec.GetImage() == "" {
		return invalid(field+".image", "missing")
	}
	handler := spec.GetRuntimeHandler()
	if handler == "" {
		return nil
	}
	facts, err := s.opts.Health.Facts()
	if len(facts.Runtimes) == 0 {
		return fmt.Errorf("runtime handlers of the engine: %w", err)
	}
	if !slices.Contains(facts.Runtimes, handler) {
		return invalid(field+".runtime_handler", "the engine has no runtime %q; it has %q", handler, facts.Runtimes)
	}
	return nil
}
