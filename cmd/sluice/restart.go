package main

import (
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

// needRestart lists those changes that a reload does not carry out.
func needRestart(changes []config.Change) []string {
	var keys []string
	for _, c := range changes {
		if c.Key == "cluster" || strings.HasPrefix(c.Key, "cluster.") || slices.Contains([]string{"admin.listen", "log.format", "limits.capacity", "auth.revocation.store", "auth.revocation.file"}, c.Key) {
			keys = append(keys, c.Key)
		}
	}
	return keys
}

// reloader is an engine whose Reload also says what it could not change. It is safe for concurrent use.
type reloader struct {
	*engine.Engine
	path    string
	started *config.File // what the process began with
	log     zerolog.Logger
}

// Reload is that of the engine, which logs its own outcome.
func (r *reloader) Reload() error {
	if err := r.Engine.Reload(); err != nil {
		return err
	}
	file, faults := config.Load(r.path)
	if len(faults) > 0 {
		return nil // it has changed once more: the next reload tells
	}
	if keys := needRestart(config.Diff(r.started, file)); len(keys) > 0 {
		r.log.Warn().Str("keys", strings.Join(keys, ", ")).Msg("changed, but only a restart makes it live")
	}
	return nil
}
