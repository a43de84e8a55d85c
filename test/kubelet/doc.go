// Package kubelet runs a real kubelet, built by tools/kubelet, on MasCRI and a real Docker
// Engine, and looks at what comes of pods by the kubelet's own API and by MasCRI. The
// kubelet is on its own: there is no API server, its pods are static ones.
//
// Each behaviour that was seen is printed in one line, with what shows it; one that is in
// the list of behaviours and was not seen is a failure.
package kubelet
