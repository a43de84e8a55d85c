package network

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// The pod annotations that limit its bandwidth, as quantities in bits per second.
const (
	annotationIngress = "kubernetes.io/ingress-bandwidth"
	annotationEgress  = "kubernetes.io/egress-bandwidth"
)

// The limits of a limit, as Kubernetes sets them: 1k and 1P.
const (
	minBandwidth = 1e3
	maxBandwidth = 1e15
)

// What may pass at once after a pause, in bits: a tenth of a second's worth, but not less
// than the kernel hands on in one piece (64 KiB, of which a limit that is lower lets
// pieces of an MTU pass) and not more than the plugin takes.
const (
	burstShare = 10
	burstFloor = (64 << 10) * 8
	burstMost  = math.MaxUint32
	// burstSeconds is as long as the kernel can count for one burst: 2^32 ticks of 64 ns.
	burstSeconds = 100
)

// burstOf is the burst for a rate. The largest that the plugin takes, which other runtimes
// give, would let half a gigabyte pass unshaped, and below 1M it overflows in the plugin.
func burstOf(rate uint64) uint64 {
	return min(max(rate/burstShare, min(burstFloor, burstSeconds*rate)), burstMost)
}

// bandwidth is the capability's value: rates in bits per second, bursts in bits.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// bandwidthOf reads the limits from a pod's annotations; nil: there are none. A
// rate needs a burst.
func bandwidthOf(annotations map[string]string) (*bandwidth, error) {
	var limits bandwidth
	for _, limit := range []struct {
		annotation  string
		rate, burst *uint64
	}{
		{annotationIngress, &limits.IngressRate, &limits.IngressBurst},
		{annotationEgress, &limits.EgressRate, &limits.EgressBurst},
	} {
		text, ok := annotations[limit.annotation]
		if !ok {
			continue
		}
		rate, err := parseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", limit.annotation, err)
		}
		if rate < minBandwidth || rate > maxBandwidth {
			return nil, fmt.Errorf("annotation %s: %q is not within 1k and 1P: %w", limit.annotation, text, errdefs.ErrInvalidArgument)
		}
		*limit.rate, *limit.burst = rate, burstOf(rate)
	}
	if limits == (bandwidth{}) {
		return nil, nil
	}
	return &limits, nil
}

// quantityForm is the form of Kubernetes' resource quantities; digits are bounded
// so that no text asks for a number of a million digits.
var quantityForm = regexp.MustCompile(`^\+?([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE]([+-]?[0-9]{1,2})|([numkMGTPE]|[KMGTPE]i))?$`)

// parseQuantity reads a Kubernetes resource quantity such as 10M, 1.5Gi or 1e6,
// rounded up to a whole number. The error is ErrInvalidArgument.
func parseQuantity(text string) (uint64, error) {
	parts := quantityForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("%q is not a quantity such as 10M: %w", text, errdefs.ErrInvalidArgument)
	}
	number, suffix := parts[1], parts[3]
	exponent := parts[2]
	if exponent == "" {
		exponent = decimalExponent(suffix)
	}
	value, ok := new(big.Rat).SetString(number + "e" + exponent)
	if !ok {
		return 0, fmt.Errorf("%q is not a quantity such as 10M: %w", text, errdefs.ErrInvalidArgument)
	}
	if power, binary := strings.CutSuffix(suffix, "i"); binary {
		shift := uint(10 * (1 + strings.Index("KMGTPE", power)))
		value.Mul(value, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), shift)))
	}
	whole := new(big.Int).Add(value.Num(), new(big.Int).Sub(value.Denom(), big.NewInt(1)))
	whole.Quo(whole, value.Denom())
	if !whole.IsUint64() {
		return 0, fmt.Errorf("%q is too large: %w", text, errdefs.ErrInvalidArgument)
	}
	return whole.Uint64(), nil
}

// decimalExponent is the power of ten that a decimal suffix stands for.
func decimalExponent(suffix string) string {
	switch suffix {
	case "n":
		return "-9"
	case "u":
		return "-6"
	case "m":
		return "-3"
	case "k":
		return "3"
	case "M":
		return "6"
	case "G":
		return "9"
	case "T":
		return "12"
	case "P":
		return "15"
	case "E":
		return "18"
	}
	return "0"
}
