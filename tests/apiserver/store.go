package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
)

// store is the etcd member.
type store struct{ etcd *embed.Etcd }

// maxSocketPath is what fits into sockaddr_un with some room for etcd's own suffix.
const maxSocketPath = 100

func openStore(here folder) (*store, error) {
	config := embed.NewConfig()
	config.Dir = here.file("etcd")
	config.LogLevel = "error"
	// Unix sockets: no second port, and only who may enter the folder gets in.
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Path: here.file("client.sock")}}
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Path: here.file("peer.sock")}}
	if len(here.file("client.sock")) > maxSocketPath {
		return nil, fmt.Errorf("%s: too long a path for a unix socket", here)
	}
	// What is advertised has to have a port. A member on its own dials nobody.
	nobody := []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	config.AdvertiseClientUrls, config.AdvertisePeerUrls = nobody, nobody
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// The tests kill processes, never the machine.
	config.UnsafeNoFsync = true
	// A lone member wins any election; the sooner the better.
	config.TickMs, config.ElectionMs = 10, 100
	// kubeadm's setting; without it kinds that do not change get no bookmarks.
	config.WatchProgressNotifyInterval = 5 * time.Second
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return &store{etcd}, nil
	case err := <-etcd.Err():
		etcd.Close()
		return nil, err
	case <-time.After(time.Minute):
		etcd.Close()
		return nil, fmt.Errorf("no leader after a minute")
	}
}

func (s *store) close() { s.etcd.Close() }

// obey does what a line of standard input asks for.
func (s *store) obey(ctx context.Context, line string) answer {
	command, rest, _ := strings.Cut(line, " ")
	switch command {
	case "put":
		// An object with a uid that a test chose, and many objects soon: no admission looks at them.
		key, object, _ := strings.Cut(rest, " ")
		put := &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(object)}
		done, err := s.etcd.Server.Put(ctx, put)
		if err != nil {
			return answer{Event: "error", Why: err.Error()}
		}
		return answer{Event: command, Revision: done.Header.Revision}
	case "revision":
		return answer{Event: command, Revision: s.etcd.Server.KV().Rev()}
	case "compact":
		revision, err := s.forget(ctx)
		if err != nil {
			return answer{Event: "error", Why: err.Error()}
		}
		return answer{Event: command, Revision: revision}
	}
	return answer{Event: "error", Why: "commands are: compact, put KEY OBJECT, revision, token NAMESPACE ACCOUNT UID SECONDS"}
}

// forget drops all history, in the way of kube-apiserver's own compactor: the watch caches follow the revision that
// stands under this key, and etcd is then told to compact to it.
func (s *store) forget(ctx context.Context) (int64, error) {
	now := s.etcd.Server.KV().Rev()
	put := &etcdserverpb.PutRequest{Key: []byte("compact_rev_key"), Value: strconv.AppendInt(nil, now, 10)}
	if _, err := s.etcd.Server.Put(ctx, put); err != nil {
		return 0, err
	}
	_, err := s.etcd.Server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: now, Physical: true})
	return now, err
}
