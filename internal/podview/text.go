package podview

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mascri/mascri/internal/table"
)

// narrow is the length of an address that has a place among other columns: that of the
// longest of IPv4.
const narrow = 15

// WriteText writes the pods for people, as they are at now. width is in columns.
func (p Pods) WriteText(w io.Writer, now time.Time, width int, colour bool) error {
	t := table.Table{
		Heads: []string{"ID", "POD", "STATE", "IP", "AGE", "RUNNING", "RESTARTS"}, Tight: []int{1}, Width: width,
		Right: map[int]bool{4: true, 5: true, 6: true}, None: "no pod",
	}
	for _, pod := range p.Pods {
		ip, long := "-", ""
		if len(pod.IPs) > 0 {
			ip = pod.IPs[0].String()
		}
		if len(ip) > narrow {
			ip, long = "", ip
		}
		t.Add(short(pod.ID), pod.Namespace+"/"+pod.Name, pod.State, ip, age(now.Sub(pod.CreatedAt)),
			fmt.Sprintf("%d/%d", pod.Running, pod.Total), strconv.Itoa(pod.Restarts))
		if long != "" {
			t.Add("", "", "", long, "", "", "")
		}
	}
	return t.Write(w, colour)
}

// WriteIDs writes the pods' ids, one on a line.
func (p Pods) WriteIDs(w io.Writer) error {
	for _, pod := range p.Pods {
		if _, err := fmt.Fprintln(w, pod.ID); err != nil {
			return err
		}
	}
	return nil
}

// WriteText writes the containers for people, as they are at now. width is in columns.
func (c Containers) WriteText(w io.Writer, now time.Time, width int, colour bool) error {
	t := table.Table{
		Heads: []string{"ID", "CONTAINER", "POD", "STATE", "IMAGE", "AGE", "ATTEMPT"}, Tight: []int{1, 2, 4}, Width: width,
		Right: map[int]bool{5: true, 6: true}, None: "no container",
	}
	for _, one := range c.Containers {
		t.Add(short(one.ID), one.Name, one.Namespace+"/"+one.Pod, one.state(), shortImage(one.Image),
			age(now.Sub(one.CreatedAt)), strconv.FormatUint(uint64(one.Attempt), 10))
	}
	return t.Write(w, colour)
}

// WriteIDs writes the containers' ids, one on a line.
func (c Containers) WriteIDs(w io.Writer) error {
	for _, one := range c.Containers {
		if _, err := fmt.Fprintln(w, one.ID); err != nil {
			return err
		}
	}
	return nil
}

// state has the exit code, and the reason where that says more than the code.
func (c Container) state() string {
	if c.Exit == nil {
		return c.State
	}
	text := fmt.Sprintf("%s %d", c.State, c.Exit.Code)
	if c.Exit.Reason != "Completed" && c.Exit.Reason != "Error" {
		text += " " + c.Exit.Reason
	}
	return strings.TrimSpace(text)
}

func short(id string) string { return id[:min(12, len(id))] }

// shortImage is an image without its registry and path, and with a short id.
func shortImage(image string) string {
	if hex, ok := strings.CutPrefix(image, "sha256:"); ok {
		return short(hex)
	}
	name, digest, pinned := strings.Cut(image, "@")
	name = name[strings.LastIndex(name, "/")+1:]
	if pinned {
		name += "@" + short(strings.TrimPrefix(digest, "sha256:"))
	}
	return name
}

// age is a duration in whole seconds, minutes, hours or days, whichever is the largest of
// which there are two.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}
