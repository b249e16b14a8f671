// Command oracle answers "what does Istio do with this connection" with Istio's own code: it feeds a folder of
// objects to the fake istiod of istio.io/istio (pilot/test/xds), takes the configuration that istiod generates for a
// pod's proxy, and evaluates calls with Istio's simulator (pilot/pkg/simulation).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/config/schema/gatewayapi"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

const (
	proxyVersion = "1.31.0"
	istioModule  = "istio.io/istio v0.0.0-20260827124520-eed52ebb66ad"
)

func fullMatch(expr, s string) bool {
	re, err := regexp.Compile("^(?:" + expr + ")$")
	return err == nil && re.MatchString(s)
}

func main() {
	for _, s := range log.Scopes() {
		s.SetOutputLevel(log.NoneLevel)
	}
	// the fake API server has no CRD versions to check
	clear(gatewayapi.MinimumCRDVersions)
	if len(os.Args) < 2 {
		usage()
	}
	var err error
	switch os.Args[1] {
	case "eval":
		err = evalDirs(os.Args[2:])
	case "dump":
		err = onProxy(os.Args[2:], (*World).dumpProxy)
	case "envoy":
		err = onProxy(os.Args[2:], (*World).writeBootstrap)
	default:
		usage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: oracle eval DIR... | oracle dump|envoy DIR NAMESPACE/POD")
	os.Exit(2)
}

// caseDirs finds every folder at or below the arguments that holds calls.jsonl.
func caseDirs(args []string) ([]string, error) {
	var dirs []string
	for _, a := range args {
		err := filepath.WalkDir(a, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Name() == "calls.jsonl" {
				dirs = append(dirs, filepath.Dir(p))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	sort.Strings(dirs)
	return dirs, nil
}

func evalDirs(args []string) error {
	dirs, err := caseDirs(args)
	if err != nil {
		return err
	}
	failed := 0
	for _, d := range dirs {
		if err := evalDir(d); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", d, err)
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cases were not evaluated", failed, len(dirs))
	}
	fmt.Printf("%d cases evaluated\n", len(dirs))
	return nil
}

// features switches istiod feature flags on for one case; the keys are the names of the environment variables.
func evalDir(dir string) error {
	m, err := LoadMesh(filepath.Join(dir, "mesh"))
	if err != nil {
		return err
	}
	for _, warning := range m.Warnings {
		fmt.Fprintf(os.Stderr, "%s: %s\n", dir, warning)
	}
	calls, err := readCalls(filepath.Join(dir, "calls.jsonl"))
	if err != nil {
		return err
	}
	var answers []Answer
	for run := 0; run < m.runs(); run++ {
		err = withWorld(dir, m, func(w *World) error {
			if run == 1 {
				w.gatewaysFirst()
			}
			for i, c := range calls {
				a := w.Evaluate(c)
				switch {
				case run == 0:
					answers = append(answers, a)
				case !sameAnswer(answers[i], a):
					answers[i] = Answer{ID: c.ID, SimError: "Istio's answer differs from run to run"}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	var out []byte
	for _, a := range answers {
		js, err := json.Marshal(a)
		if err != nil {
			return err
		}
		out = append(append(out, js...), '\n')
	}
	return os.WriteFile(filepath.Join(dir, "expected.jsonl"), out, 0o644)
}

// gatewaysFirst lets every gateway ask istiod before any sidecar does. A gateway in a namespace where a sidecar without a
// Sidecar object asked before gets that sidecar's scope (PushContext.doGetSidecarScope), so its answers depend on who came first.
func (w *World) gatewaysFirst() {
	var names []string
	for name, pod := range w.mesh.Pods {
		if proxyType(pod) == model.Router {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		_, _ = w.proxy(name)
	}
}

// sameAnswer compares all but the informative part.
func sameAnswer(a, b Answer) bool {
	strip := func(a Answer) string {
		a.Envoy = nil
		if a.Leg2 != nil {
			l := *a.Leg2
			l.Envoy = nil
			a.Leg2 = &l
		}
		js, _ := json.Marshal(a)
		return string(js)
	}
	return strip(a) == strip(b)
}

func withWorld(dir string, m *Mesh, f func(*World) error) error {
	restore, err := setFeatures(dir)
	if err != nil {
		return err
	}
	defer restore()
	var inner error
	if err := test.Wrap(func(t test.Failer) {
		inner = f(NewWorld(t, m))
	}); err != nil {
		return err
	}
	return inner
}

// onProxy prints something about one proxy: args are DIR NAMESPACE/POD.
func onProxy(args []string, print func(*World, *Proxy) error) error {
	if len(args) != 2 {
		usage()
	}
	m, err := LoadMesh(filepath.Join(args[0], "mesh"))
	if err != nil {
		return err
	}
	return withWorld(args[0], m, func(w *World) error {
		p, err := w.proxy(args[1])
		if err != nil {
			return err
		}
		return print(w, p)
	})
}
