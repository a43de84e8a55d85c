package translate

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The first and the last real-time signal as signal(7) numbers them for users of the C
// library.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// stopSignal returns Docker's name for signal, "" for the image's.
func stopSignal(signal cri.Signal) (string, error) {
	name, known := cri.Signal_name[int32(signal)]
	if !known {
		return "", invalid("stop_signal: unknown value %d", signal)
	}
	if signal == cri.Signal_SIGNAL_RUNTIME_DEFAULT {
		return "", nil
	}
	name = strings.TrimPrefix(name, "SIGNAL_")
	return strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(name), nil
}

// StopSignalInForce reads the stop signal of a container as the engine shows it, which an
// image may have written as a name with or without SIG, or as a number. What is no
// signal of the CRI's is SIGNAL_RUNTIME_DEFAULT.
func StopSignalInForce(text string) cri.Signal {
	if text == "" {
		return cri.Signal_SIGNAL_SIGTERM
	}
	name := strings.ToUpper(text)
	if number, err := strconv.Atoi(text); err == nil {
		name = signalName(number)
	}
	name = "SIGNAL_SIG" + strings.TrimPrefix(name, "SIG")
	name = strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(name)
	return cri.Signal(cri.Signal_value[name])
}

func signalName(number int) string {
	switch {
	case number == sigRTMin:
		return "RTMIN"
	case number == sigRTMax:
		return "RTMAX"
	case number > sigRTMin && number <= sigRTMin+15:
		return "RTMIN+" + strconv.Itoa(number-sigRTMin)
	case number > sigRTMin && number < sigRTMax:
		return "RTMAX-" + strconv.Itoa(sigRTMax-number)
	}
	return unix.SignalName(unix.Signal(number))
}
