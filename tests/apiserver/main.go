// Command apiserver is the Kubernetes API server that the live tests talk to: an etcd of one member and an unchanged
// kube-apiserver in one process, reachable on loopback only.
//
// Usage: apiserver -dir FOLDER [-keep] [-- FLAGS OF KUBE-APISERVER]
//
// FOLDER holds the port, the keys, the data and admin.kubeconfig; a process started on it again is the same cluster.
// Standard output gets one JSON object a line, the first of them when the server is ready. Standard input takes one
// command a line and each gets one answer; when it ends so does the process, and a test that dies leaves nothing
// behind (with -keep a signal is needed).
//
// There is no controller, scheduler or kubelet: what they would write, a test writes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// folder is where one cluster lives.
type folder string

func (f folder) file(name string) string { return filepath.Join(string(f), name) }

// answer is one line of standard output.
type answer struct {
	Event      string `json:"event"`
	Kubeconfig string `json:"kubeconfig,omitempty"`
	URL        string `json:"url,omitempty"`
	Revision   int64  `json:"revision,omitempty"`
	Token      string `json:"token,omitempty"`
	Why        string `json:"why,omitempty"`
}

func main() {
	where := flag.String("dir", "", "the cluster's folder")
	keep := flag.Bool("keep", false, "stay when standard input ends")
	flag.Parse()
	if err := run(*where, *keep, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "apiserver:", err)
		os.Exit(1)
	}
}

func run(where string, keep bool, flags []string) error {
	if where == "" {
		return fmt.Errorf("-dir is missing")
	}
	absolute, err := filepath.Abs(where)
	if err != nil {
		return err
	}
	here := folder(absolute)
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()

	socket, err := here.socket()
	if err != nil {
		return err
	}
	url := "https://" + socket.Addr().String()
	trust, err := here.keys(url)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	store, err := openStore(here)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer store.close()

	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, here, socket, flags) }()
	if err := untilReady(ctx, url, trust, ended); err != nil {
		return err
	}
	say(answer{Event: "ready", Kubeconfig: here.file("admin.kubeconfig"), URL: url})

	commands := make(chan string)
	go func() {
		defer close(commands)
		input := bufio.NewScanner(os.Stdin)
		// A line may hold an object.
		input.Buffer(nil, 4<<20)
		for input.Scan() {
			commands <- strings.TrimSpace(input.Text())
		}
	}()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			// Nothing is worth a graceful end here: the data survives a kill, which is what the tests do.
			return nil
		case command, more := <-commands:
			switch {
			case more:
				say(obey(ctx, here, store, command))
			case keep:
				commands = nil
			default:
				return nil
			}
		}
	}
}

// obey does what a line of standard input asks for.
func obey(ctx context.Context, here folder, store *store, line string) answer {
	rest, is := strings.CutPrefix(line, "token ")
	if !is {
		return store.obey(ctx, line)
	}
	var namespace, name, uid string
	var seconds int
	if _, err := fmt.Sscan(rest, &namespace, &name, &uid, &seconds); err != nil {
		return answer{Event: "error", Why: "token NAMESPACE ACCOUNT UID SECONDS: " + err.Error()}
	}
	token, err := here.token(namespace, name, uid, time.Duration(seconds)*time.Second)
	if err != nil {
		return answer{Event: "error", Why: err.Error()}
	}
	return answer{Event: "token", Token: token}
}

func say(line answer) {
	// A closed standard output means that the test is gone; standard input ends next.
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

// socket listens where this cluster listened last time, else on a free port, and hands the open listener on: between
// choosing a port and using it nobody else can take it.
func (f folder) socket() (net.Listener, error) {
	at := "127.0.0.1:0"
	if last, err := os.ReadFile(f.file("address")); err == nil {
		at = strings.TrimSpace(string(last))
	}
	listener, err := net.Listen("tcp4", at)
	if err != nil {
		return nil, err
	}
	return listener, os.WriteFile(f.file("address"), []byte(listener.Addr().String()), 0o600)
}
