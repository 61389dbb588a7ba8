package main

import (
	"errors"
	"net/http"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sluice-gateway/sluice/engine"
)

// topWindow is what the rates of top are taken over.
const topWindow = 5 * time.Second

// topModel is what was heard of a gateway, and how it is looked at. It is a value: Update returns the next one.
type topModel struct {
	styles
	ask func() (engine.Status, error)

	heard []engine.Status // those of topWindow, oldest first
	at    time.Time       // when the last one came
	err   error           // why there is none after it

	width, height int
	view          topView
	orders        [topViews]topOrder
	filter        string
	typing        bool // the filter
	first         int  // row that is shown
}

// topView is one of the tables.
type topView int

const (
	topRoutes topView = iota
	topUpstreams
	topLimits
	topClients
	topPeers
	topViews
)

// topOrder is how a table is sorted.
type topOrder struct {
	column int
	turned bool // against the way that the column is sorted by itself
}

// topAnswer is what came of a question.
type topAnswer struct {
	status engine.Status
	err    error
	at     time.Time
}

// topQuestion is due.
type topQuestion struct{}

func newTopModel(s styles, ask func() (engine.Status, error)) topModel {
	m := topModel{styles: s, ask: ask, width: 80, height: 24}
	m.orders[topRoutes].column = 1 // requests
	m.orders[topLimits].column = 3 // refused
	m.orders[topClients].column = 1
	return m
}

func (m topModel) Init() tea.Cmd { return m.question }

func (m topModel) question() tea.Msg {
	s, err := m.ask()
	return topAnswer{s, err, time.Now()}
}

func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case topQuestion:
		return m, m.question
	case topAnswer:
		if m.err = msg.err; m.refused() != nil {
			return m, tea.Quit
		}
		if msg.err == nil {
			m = m.hear(msg.status, msg.at)
		}
		return m, tea.Tick(topPause, func(time.Time) tea.Msg { return topQuestion{} })
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if m.typing {
			return m.typed(msg), nil
		}
		return m.pressed(msg.String())
	}
	return m, nil
}

// refused is the error that asking again would not change: the token is another.
func (m topModel) refused() error {
	var r *refusal
	if errors.As(m.err, &r) && (r.status == http.StatusUnauthorized || r.status == http.StatusForbidden) {
		return m.err
	}
	return nil
}

// hear takes a picture.
func (m topModel) hear(s engine.Status, at time.Time) topModel {
	if n := len(m.heard); n > 0 && (!m.heard[n-1].Started.Equal(s.Started) || m.heard[n-1].Uptime > s.Uptime) {
		m.heard = nil // another process counts anew
	}
	m.heard, m.at = append(slices.Clip(m.heard), s), at
	for len(m.heard) > 2 && s.Uptime-m.heard[1].Uptime >= topWindow.Seconds() {
		m.heard = m.heard[1:]
	}
	return m
}

// typed changes the filter.
func (m topModel) typed(key tea.KeyPressMsg) topModel {
	m.first = 0
	switch key.String() {
	case "enter":
		m.typing = false
	case "esc", "ctrl+c":
		m.typing, m.filter = false, ""
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	default:
		if len(m.filter) < 64 {
			m.filter += key.Text
		}
	}
	return m
}

func (m topModel) pressed(key string) (tea.Model, tea.Cmd) {
	order := &m.orders[m.view]
	columns := len(topTables()[m.view].columns)
	switch key {
	case "q", "ctrl+c":
		return m, tea.Quit
	case "1", "2", "3", "4", "5":
		m.view, m.first = topView(key[0]-'1'), 0
	case "tab", "right":
		m.view, m.first = (m.view+1)%topViews, 0
	case "shift+tab", "left":
		m.view, m.first = (m.view+topViews-1)%topViews, 0
	case "s":
		*order = topOrder{column: (order.column + 1) % columns}
	case "S":
		*order = topOrder{column: (order.column + columns - 1) % columns}
	case "r":
		order.turned = !order.turned
	case "/":
		m.typing, m.filter, m.first = true, "", 0
	case "esc":
		m.filter = ""
	case "down", "j":
		m.first++
	case "up", "k":
		m.first--
	case "pgdown", "space":
		m.first += m.room()
	case "pgup":
		m.first -= m.room()
	case "home", "g":
		m.first = 0
	}
	m.first = max(0, min(m.first, len(m.rows(m.view))-1))
	return m, nil
}
