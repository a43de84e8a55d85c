package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// What is heard of a container between the beginning to follow its log and its start must
// not be taken for its end: all that it writes is in the log, however short it runs.
func TestLogOfAContainerThatIsChangedBeforeItStarts(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	b := newBench(t, n)
	n.terminate(t)
	pass := n.toEngine(nil)
	n.proxy = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if head, ok := strings.CutSuffix(r.URL.Path, "/start"); ok {
			if _, err := try("docker", "-H", n.host, "rename", head[strings.LastIndex(head, "/")+1:], "renamed"); err != nil {
				t.Error(err)
			}
			time.Sleep(300 * time.Millisecond) // for the daemon to hear of it
		}
		pass.ServeHTTP(w, r)
	}))
	n.start(t)
	c := b.runContainer(t, b.request("short", "echo hi"))
	if got := c.output(t); got != "hi\n" {
		t.Errorf("the log has %q", got)
	}
	b.removePod(t, b.pod.id)
	b.wantWhole(t, 0)
}
