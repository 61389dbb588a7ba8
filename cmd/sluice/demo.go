package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/listen"
)

// Where the demo listens if nobody else does.
const (
	demoListen    = "127.0.0.1:8080"
	demoListenTLS = "127.0.0.1:8443"
	demoAdmin     = "127.0.0.1:9901"
)

//go:embed demo.toml
var demoConfig string

func newDemo() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the gateway in front of a small example service",
		Long: `Demo starts two versions of a small service, an issuer of tokens and the gateway
in front of them, in one process, and prints requests to try. It shows where its
configuration is: edit it and watch the gateway reload.

Ctrl-C ends it and removes its files.`,
		Example: `  sluice demo
  sluice demo --listen 127.0.0.1:9000`,
		Args: usage(cobra.NoArgs),
	}
	address := cmd.Flags().String("listen", "", "the gateway's `address` (default "+demoListen+", or a free port)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		signals, stop := watchSignals()
		defer stop()
		d, err := newDemonstration(*address, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer d.close()
		return d.serve(signals, cmd.OutOrStdout())
	}
	return cmd
}

// demonstration is a gateway with its own folder, services and issuer.
type demonstration struct {
	demoPlan
	folder  string
	keys    demoKeys
	issuer  *demoIssuer
	servers []*demoServer
	process *process
}

// demoPlan is what the template of the configuration is filled with: addresses.
type demoPlan struct {
	Listen, ListenTLS, Admin string // of the gateway
	V1, V1Large, V2          string // of the services
	Issuer                   string // its URL
}

// newDemonstration makes everything ready. An empty listen stands for the usual address.
func newDemonstration(listen string, errOut io.Writer) (*demonstration, error) {
	d := &demonstration{}
	if err := d.prepare(listen, errOut); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *demonstration) prepare(address string, errOut io.Writer) error {
	sockets := &listen.Set{}
	if err := d.choose(sockets, address); err != nil {
		return errors.Join(err, sockets.Close())
	}
	if err := d.startServers(); err != nil {
		return errors.Join(err, sockets.Close())
	}
	if err := d.writeFolder(); err != nil {
		return errors.Join(err, sockets.Close())
	}
	p, err := newProcess(d.configPath(), sockets, io.Discard, errOut, os.Getenv)
	if err != nil {
		return errors.Join(err, sockets.Close())
	}
	d.process = p
	return nil
}

func (d *demonstration) startServers() (err error) {
	if d.issuer, err = newDemoIssuer(); err != nil {
		return err
	}
	for _, s := range []struct {
		to      *string
		handler func(address string) http.Handler
	}{
		{&d.V1, (&demoService{"v1"}).handler},
		{&d.V1Large, (&demoService{"v1, the large one"}).handler},
		{&d.V2, (&demoService{"v2"}).handler},
		{&d.Issuer, d.issuer.handler},
	} {
		started, err := startDemoServer(s.handler)
		if err != nil {
			return err
		}
		d.servers = append(d.servers, started)
		*s.to = started.address
	}
	d.Issuer = d.issuer.url
	return nil
}

// choose finds the addresses and claims them, so that they are still free when the gateway starts. One
// that was asked for is not replaced.
func (d *demonstration) choose(sockets *listen.Set, address string) error {
	places := []struct {
		to     *string
		usual  string
		settle bool // for another port
	}{
		{&d.Listen, cmp.Or(address, demoListen), address == ""},
		{&d.ListenTLS, demoListenTLS, true},
		{&d.Admin, demoAdmin, true},
	}
	for _, place := range places {
		err := claim(sockets, place.usual)
		*place.to = place.usual
		if err != nil && place.settle {
			*place.to, err = claimFree(sockets)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// claim opens an address in the set, which keeps it when the listener is closed.
func claim(sockets *listen.Set, address string) error {
	if strings.HasSuffix(address, ":0") {
		return fmt.Errorf("cannot listen on %q: name the port", address)
	}
	l, err := sockets.Listen(address)
	if err != nil {
		return err
	}
	return l.Close()
}

func claimFree(sockets *listen.Set) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	return address, claim(sockets, address)
}

// writeFolder makes the folder with the configuration and the files it names.
func (d *demonstration) writeFolder() error {
	folder, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return err
	}
	d.folder = folder
	if err := writeDemoCertificate(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "introspection.secret"), []byte(d.issuer.gateway), 0o600); err != nil {
		return err
	}
	if d.keys, err = writeDemoKeys(filepath.Join(folder, "keys.toml")); err != nil {
		return err
	}
	filled, err := template.New("demo.toml").Parse(demoConfig)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := filled.Execute(&text, d.demoPlan); err != nil {
		return err
	}
	return os.WriteFile(d.configPath(), []byte(text.String()), 0o600)
}

func (d *demonstration) configPath() string { return filepath.Join(d.folder, "gateway.toml") }

// serve runs until a signal, or the admin side, ends it.
func (d *demonstration) serve(signals <-chan os.Signal, out io.Writer) error {
	if err := d.process.start(); err != nil {
		return errors.Join(err, d.process.sockets.Close())
	}
	_, err := io.WriteString(out, d.tour())
	d.process.supervise(signals)
	return err
}

// close ends the servers and removes the folder.
func (d *demonstration) close() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.close())
	}
	if d.folder != "" {
		errs = append(errs, os.RemoveAll(d.folder))
	}
	return errors.Join(errs...)
}
