package telemetry

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestLevelChangesUnderLoggers: a reload changes the level for loggers that are long in use.
func TestLevelChangesUnderLoggers(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, "json", false)
	if err := log.SetLevel("warn"); err != nil {
		t.Fatal(err)
	}
	logger := log.Logger()
	logger.Info().Msg("too little")
	logger.Error().Msg("severe")
	if err := log.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	logger.Debug().Msg("now enough")

	var messages []string
	for line := range strings.Lines(out.String()) {
		var entry struct{ Message, Time, Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" {
			t.Errorf("%q is no entry: %v", line, err)
		}
		messages = append(messages, entry.Message)
	}
	if got := strings.Join(messages, ", "); got != "severe, now enough" {
		t.Errorf("logged %q", got)
	}
}

func TestUnknownLevelChangesNothing(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, "json", false)
	if err := log.SetLevel("loud"); err == nil {
		t.Error("accepted")
	}
	logger := log.Logger()
	logger.Info().Msg("still written")
	if out.Len() == 0 {
		t.Error("nothing is written any more")
	}
}

func TestConsoleHasColorsOnlyWhenAsked(t *testing.T) {
	for _, color := range []bool{true, false} {
		var out bytes.Buffer
		logger := NewLog(&out, "console", color).Logger()
		logger.Warn().Msg("hello")
		if !strings.Contains(out.String(), "hello") || strings.Contains(out.String(), "\x1b[") != color {
			t.Errorf("color %v gives %q", color, out.String())
		}
	}
}
