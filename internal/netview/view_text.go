package netview

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// narrow is the length of an address that has a place among other columns: that of the
// longest of IPv4.
const narrow = 15

// manyAddresses is where a count of free addresses says no more than "enough".
const manyAddresses = 1_000_000

// WriteText writes networks and pods for people.
func (n Node) WriteText(w io.Writer, colour bool) error {
	t := table{heads: []string{"NETWORK", "SUBNET", "USED", "FREE", "PODS", "LINK"}, none: "no network", right: map[int]bool{2: true, 3: true, 4: true}}
	for _, net := range n.Networks {
		net.rows(&t)
	}
	if err := t.write(w, colour); err != nil {
		return err
	}
	var notes strings.Builder
	for _, net := range n.Networks {
		if net.Next {
			fmt.Fprintln(&notes, wrap("* the next pod: "+net.origin()+", by "+strings.Join(net.Plugins, ", "), 0, 2))
		}
	}
	if n.Problem != "" {
		fmt.Fprintln(&notes, alarm("no pod can be attached: "+n.Problem, colour))
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", notes.String()); err != nil {
		return err
	}
	return n.WritePods(w, colour)
}

// origin is the file of a network, for people.
func (n Network) origin() string {
	if n.File == "" {
		return "the embedded default network"
	}
	return n.File
}

// rows are one for each pool or link, whichever are more.
func (n Network) rows(t *table) {
	for i := range max(1, len(n.Pools), len(n.Links)) {
		row := []string{"", "", "", "", "", ""}
		if i == 0 {
			row[0], row[4] = n.Name, strconv.Itoa(n.Pods)
			if n.Next {
				row[0] += " *"
			}
		}
		if i < len(n.Pools) {
			pool := n.Pools[i]
			row[1], row[2], row[3] = pool.Subnet.String(), strconv.FormatUint(pool.Used, 10), free(pool.Free)
			if pool.Error != "" {
				row[2], row[3] = "?", "?"
			}
		}
		if i < len(n.Links) {
			row[5] = n.Links[i].text()
		}
		t.add(row...)
	}
}

func free(count uint64) string {
	if count > manyAddresses {
		return "> 1 million"
	}
	return strconv.FormatUint(count, 10)
}

func (l Link) text() string {
	switch {
	case l.Kind == "":
		return l.Name + ", not there"
	case !l.Up:
		return l.Name + ", down"
	case l.Kind == "bridge":
		return fmt.Sprintf("%s, %d ports", l.Name, l.Ports)
	}
	return l.Name
}

// WritePods writes the pods for people.
func (n Node) WritePods(w io.Writer, colour bool) error {
	t := table{heads: []string{"POD", "ID", "IP", "MAC", "HOST"}, none: "no pod is on a network"}
	var problems []string
	for _, p := range n.Pods {
		problems = append(problems, p.rows(&t)...)
	}
	if err := t.write(w, colour); err != nil {
		return err
	}
	for _, d := range n.Damaged {
		problems = append(problems, fmt.Sprintf("the record %s can't be used: %s", d.File, d.Why))
	}
	for i, problem := range problems {
		problem = alarm(problem, colour)
		if i == 0 {
			problem = "\n" + problem
		}
		if _, err := fmt.Fprintln(w, problem); err != nil {
			return err
		}
	}
	return nil
}

// rows adds one for each of the pod's addresses, and returns what is wrong.
func (p Pod) rows(t *table) []string {
	var problems []string
	if p.Phase != "attached" {
		problems = append(problems, fmt.Sprintf("%s (%s) is %s", p.Pod, short(p.ID), p.Phase))
	}
	if p.Problem != "" {
		problems = append(problems, fmt.Sprintf("%s (%s): %s", p.Pod, short(p.ID), p.Problem))
	}
	first := []string{p.Pod, short(p.ID), "", p.MAC, p.Host.Link}
	more := p.IPs
	if len(p.IPs) > 0 && len(p.IPs[0].String()) <= narrow {
		first[2], more = p.IPs[0].String(), p.IPs[1:]
	}
	t.add(first...)
	for _, ip := range more {
		t.add("", "", ip.String(), "", "")
	}
	return problems
}
