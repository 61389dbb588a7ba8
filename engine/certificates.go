package engine

import (
	"context"
	"crypto/tls"
	"reflect"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine/certs"
	"github.com/sluice-gateway/sluice/engine/config"
)

// certificates is the store of [server.tls] and what it was built from. A reload keeps it while that
// is the same; its files are watched while a snapshot that has it is live.
type certificates struct {
	*certs.Store
	config  *config.ServerTLS
	serving *tls.Config
}

func (c *compiler) certificates() {
	t := c.file.Server.TLS
	if t == nil || !c.sound("server.tls") {
		return
	}
	if c.last != nil && c.last.certs != nil && sameCertificates(c.last.certs.config, t) {
		c.snap.certs = c.last.certs
		return
	}
	settings := certs.Config{StrictSNI: t.StrictSNI, MinVersion: tls.VersionTLS12}
	if t.MinVersion == "1.3" {
		settings.MinVersion = tls.VersionTLS13
	}
	for _, pair := range t.Certificates {
		settings.Pairs = append(settings.Pairs, certs.Pair(pair))
	}
	store, err := certs.New(settings)
	if err != nil {
		c.fault("server.tls.certificates", "%v", err)
		return
	}
	c.snap.certs = &certificates{Store: store, config: t, serving: store.TLSConfig()}
}

// sameCertificates compares all but the addresses, which are no matter of the store.
func sameCertificates(a, b *config.ServerTLS) bool {
	x, y := *a, *b
	x.Listen, y.Listen = nil, nil
	return reflect.DeepEqual(x, y)
}

// reloadCertificates reads the files again, as the watch does when they change.
func reloadCertificates(c *certificates, log *zerolog.Logger) {
	if c == nil {
		return
	}
	changed, err := c.Reload()
	logCertificates(log, changed, err)
}

func logCertificates(log *zerolog.Logger, changed bool, err error) {
	if err != nil {
		log.Error().Err(err).Msg("certificates kept: the new ones cannot be used")
	}
	if changed {
		log.Info().Msg("certificates reloaded")
	}
}

// certificateWatch watches the files of the live snapshot's certificates.
type certificateWatch struct {
	watching *certificates
	stop     context.CancelFunc
	done     chan struct{}
}

// follow makes the watch follow another store; nil ends it. It waits for the old one to have ended.
func (w *certificateWatch) follow(c *certificates, log *zerolog.Logger) {
	if w.watching == c {
		return
	}
	if w.stop != nil {
		w.stop()
		<-w.done
		w.stop = nil
	}
	w.watching = c
	if c == nil {
		return
	}
	for _, warning := range c.Warnings(time.Now()) {
		log.Warn().Str("certificate", warning).Msg("a certificate needs attention")
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.done = cancel, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		err := c.Run(ctx, func(changed bool, err error) { logCertificates(log, changed, err) })
		if err != nil {
			log.Error().Err(err).Msg("certificates are not watched any more: reload to pick up new ones")
		}
	}(w.done)
}
