package cri

import (
	"sync"

	"google.golang.org/protobuf/proto"
)

// frozen returns m as it is on the wire, so that to send it costs no more than to copy it: all
// of it is in one piece, in the place of fields that this program does not know, and Go's
// fields are empty. What can't be encoded is returned as it is, for gRPC to refuse.
func frozen[M proto.Message](m M) M {
	wire, err := proto.Marshal(m)
	if err != nil {
		return m
	}
	f := m.ProtoReflect().New()
	f.SetUnknown(wire)
	return f.Interface().(M) //nolint:forcetypeassert // it is of m's type
}

// kept has a frozen message of each item of one of the index's lists, which is another
// slice once anything in it is another. It is safe for concurrent use.
type kept[T any, M proto.Message] struct {
	mu       sync.Mutex // guards all following fields
	list     []T
	messages []keptMessage[M]
}

type keptMessage[M proto.Message] struct {
	message M
	made    bool
	state   int32
}

// item returns what encode returned for list[i] in this state, which is all that a message
// depends on besides the list.
func (k *kept[T, M]) item(list []T, i int, state int32, encode func() M) M {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list) != len(list) || &k.list[0] != &list[0] {
		k.list, k.messages = list, make([]keptMessage[M], len(list))
	}
	if m := &k.messages[i]; !m.made || m.state != state {
		m.message, m.made, m.state = frozen(encode()), true, state
	}
	return k.messages[i].message
}
