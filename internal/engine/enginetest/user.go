package enginetest

import "testing"

// User is somebody with the docker command, behind MasCRI's back. Its methods fail the
// test rather than return errors.
type User interface {
	// Run starts a container with these labels and returns its id.
	Run(t testing.TB, name string, labels map[string]string) string
	// Terminate makes the container's process end by itself, with exit code 3, and
	// returns when it has.
	Terminate(t testing.TB, id string)
	// Remove is docker rm -f.
	Remove(t testing.TB, id string)
	// State is "created", "running", "exited", or "" for what does not exist.
	State(t testing.TB, id string) string
	// Await returns once the container's program takes signals.
	Await(t testing.TB, id string)
	// Count is how many containers docker ps -a lists.
	Count(t testing.TB) int
	// Tag is docker tag.
	Tag(t testing.TB, image, tag string)
}

// User acts on the fake.
func (f *Fake) User() User { return fakeUser{f.machine} }

type fakeUser struct{ m *machine }

func (u fakeUser) Run(t testing.TB, name string, labels map[string]string) string {
	t.Helper()
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if u.m.find(name) != nil {
		t.Fatalf("run %s: the name is taken", name)
	}
	c := u.m.create(name, FakeImage, labels)
	u.m.run(c)
	return c.ID
}

func (u fakeUser) Terminate(t testing.TB, id string) {
	t.Helper()
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	c := u.m.find(id)
	if c == nil || !c.Running {
		t.Fatalf("terminate %s: it does not run", id)
	}
	u.m.end(c, 3)
}

func (u fakeUser) Remove(t testing.TB, id string) {
	t.Helper()
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	c := u.m.find(id)
	if c == nil {
		t.Fatalf("remove %s: it does not exist", id)
	}
	u.m.remove(c)
}

func (u fakeUser) State(_ testing.TB, id string) string {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if c := u.m.find(id); c != nil {
		return state(c)
	}
	return ""
}

func (u fakeUser) Await(testing.TB, string) {}

func (u fakeUser) Count(testing.TB) int {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	return len(u.m.containers)
}
