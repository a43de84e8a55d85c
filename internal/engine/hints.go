package engine

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/pod"
)

// replay is how far back the event stream begins. The engine answers the request before
// it subscribes us, so that without a replay what happens in between would be missed; the
// second allows for a clock that is set back meanwhile. A hint given twice does no harm.
const replay = time.Second

// actions are the events after which a container may be another than before. Those of
// exec, attach and health checks, of which there are thousands, are not asked for.
var actions = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionOOM, events.ActionDestroy,
	events.ActionPause, events.ActionUnPause, events.ActionRename, events.ActionUpdate,
}

// Hints calls emit for each event of this instance's sandboxes until the stream or ctx
// ends, and first with HintConnected once the stream is established. The engine drops
// events of a listener that is slow for 100 ms: emit must not block. The error is never
// nil: ErrUnavailable when the engine ended the stream.
func (e *Engine) Hints(ctx context.Context, emit func(pod.Hint)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Told by the response, because Events returns alike for a request that failed.
	var established atomic.Bool
	c, err := e.dial(ctx, client.WithHTTPResponseHook(func(response *http.Response) {
		if strings.HasSuffix(response.Request.URL.Path, "/events") && response.StatusCode == http.StatusOK {
			established.Store(true)
		}
	}))
	if err != nil {
		return err
	}
	stream := c.api.Events(ctx, client.EventsListOptions{Since: since(time.Now()), Filters: eventFilters()})
	if established.Load() {
		emit(pod.Hint{Kind: pod.HintConnected})
	}
	for {
		select {
		case message := <-stream.Messages:
			if hint, ok := e.hint(message); ok {
				emit(hint)
			}
		case id := <-e.oomKills.new:
			emit(pod.Hint{Kind: pod.HintChanged, ID: id})
		case err := <-stream.Err:
			return e.failed("watch events", err)
		}
	}
}

func (e *Engine) hint(message events.Message) (pod.Hint, bool) {
	id := message.Actor.ID
	if _, err := e.decode(id, message.Actor.Attributes); err != nil {
		return pod.Hint{}, false
	}
	if message.Action == events.ActionDestroy {
		return pod.Hint{Kind: pod.HintGone, ID: id}, true
	}
	return pod.Hint{Kind: pod.HintChanged, ID: id}, true
}

func since(now time.Time) string {
	start := now.Add(-replay)
	return fmt.Sprintf("%d.%09d", start.Unix(), start.Nanosecond())
}

func eventFilters() client.Filters {
	filters := client.Filters{}.Add("type", string(events.ContainerEventType)).Add("label", pod.LabelKey)
	for _, action := range actions {
		filters.Add("event", string(action))
	}
	return filters
}
