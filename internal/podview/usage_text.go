package podview

import (
	"fmt"
	"io"
	"strconv"

	"github.com/mascri/mascri/internal/table"
)

// Row is one of a table of usage.
type Row struct {
	PodID     string
	Container bool // it is of a container of the pod
	Name      string
	Cells     []string // the rest
}

// Rows are one for each pod, and after it those of its containers if open says so.
func (u Usage) Rows(open func(podID string) bool) []Row {
	var rows []Row
	for _, p := range u.Pods {
		cells := append(p.cells(), "-", "-", "-")
		if n := p.Network; n != nil {
			cells[3], cells[4] = perSecond(n.ReceivedRate), perSecond(n.SentRate)
		}
		if p.Processes != nil {
			cells[5] = strconv.FormatUint(*p.Processes, 10)
		}
		rows = append(rows, Row{PodID: p.ID, Name: p.Namespace + "/" + p.Name, Cells: cells})
		if !open(p.ID) {
			continue
		}
		for _, c := range p.Containers {
			rows = append(rows, Row{PodID: p.ID, Container: true, Name: c.Name, Cells: append(c.cells(), "", "", "")})
		}
	}
	return rows
}

// UsageTable is the table that rows are added to, with their names first. width is in
// columns.
func UsageTable(width int) table.Table {
	return table.Table{
		Heads: []string{"POD", "CPU %", "MEMORY", "MEM %", "RX/S", "TX/S", "PIDS"}, Tight: []int{0}, Width: width,
		Right: map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true}, None: "no pod runs",
	}
}

// WriteText writes the usage for people.
func (u Usage) WriteText(w io.Writer, containers bool, width int, colour bool) error {
	t := UsageTable(width)
	for _, row := range u.Rows(func(string) bool { return containers }) {
		name := row.Name
		if row.Container {
			name = "  " + name
		}
		t.Add(append([]string{name}, row.Cells...)...)
	}
	return t.Write(w, colour)
}

// cells are CPU, memory, and that of the limit.
func (f Figures) cells() []string {
	cells := []string{"-", "-", "-"}
	if f.Cores != nil {
		cells[0] = fmt.Sprintf("%.1f", 100**f.Cores)
	}
	if f.Memory != nil {
		cells[1] = table.Bytes(*f.Memory)
		if f.MemoryLimit != nil {
			cells[2] = fmt.Sprintf("%.1f", 100*float64(*f.Memory)/float64(*f.MemoryLimit))
		}
	}
	return cells
}

func perSecond(rate *float64) string {
	if rate == nil {
		return "-"
	}
	return table.Bytes(uint64(*rate))
}
