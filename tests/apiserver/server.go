package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/util/feature"
	logs "k8s.io/component-base/logs/api/v1"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// serve runs kube-apiserver until it ends. The caller's flags come after ours and win.
func serve(ctx context.Context, here folder, socket net.Listener, callers []string) error {
	flags := []string{
		"--allow-privileged=true",
		"--authorization-mode=RBAC",
		"--cert-dir=" + here.file("."),
		"--client-ca-file=" + here.file("ca.crt"),
		// A loopback address may not stand in the endpoints of the Service "kubernetes".
		"--endpoint-reconciler-type=none",
		"--etcd-servers=unix://" + here.file("client.sock"),
		"--profiling=false",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + here.file("accounts.key"),
		"--service-account-signing-key-file=" + here.file("accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + here.file("server.crt"),
		"--tls-private-key-file=" + here.file("server.key"),
		// It wants an account "default" in each namespace, which a controller would make.
		"--disable-admission-plugins=ServiceAccount",
	}
	chosen := options.NewServerRunOptions()
	known := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, section := range chosen.Flags().FlagSets {
		known.AddFlagSet(section)
	}
	if err := known.Parse(append(flags, callers...)); err != nil {
		return err
	}
	address := socket.Addr().(*net.TCPAddr)
	chosen.SecureServing.Listener = socket
	chosen.SecureServing.BindAddress, chosen.SecureServing.BindPort = address.IP, address.Port
	// Only from here on do feature gates and -v have an effect.
	if err := chosen.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	if err := logs.ValidateAndApply(chosen.Logs, feature.DefaultFeatureGate); err != nil {
		return err
	}
	complete, err := chosen.Complete(ctx)
	if err != nil {
		return err
	}
	if wrong := complete.Validate(); len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	return app.Run(ctx, complete)
}

// untilReady asks /readyz as the administrator.
func untilReady(ctx context.Context, url string, trust *tls.Config, ended <-chan error) error {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: trust}}
	defer client.CloseIdleConnections()
	again := time.NewTicker(40 * time.Millisecond)
	defer again.Stop()
	tooLong := time.After(2 * time.Minute)
	for {
		if response, err := client.Get(url + "/readyz"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-again.C:
		case err := <-ended:
			return fmt.Errorf("kube-apiserver ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-tooLong:
			return errors.New("not ready after two minutes")
		}
	}
}
