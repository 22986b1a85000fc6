// dockerignore says which files of a context BuildKit's own walk keeps. One JSON object a line in,
// {"ignore": "…", "files": ["a/b", …]}, one out, {"kept": ["a/b", …]} or {"error": "…"}.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

type question struct {
	Ignore string   `json:"ignore"`
	Files  []string `json:"files"`
}

type answer struct {
	Kept  []string `json:"kept"`
	Error string   `json:"error,omitempty"`
}

// memory is a directory in memory: its names, and what is beneath those that are directories themselves.
type memory map[string]memory

func (m memory) add(file string) {
	name, rest, nested := strings.Cut(file, "/")
	if !nested {
		m[name] = nil
		return
	}
	if m[name] == nil {
		m[name] = memory{}
	}
	m[name].add(rest)
}

func (m memory) Open(string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

func (m memory) Walk(_ context.Context, _ string, fn fs.WalkDirFunc) error { return m.walk("", fn) }

func (m memory) walk(prefix string, fn fs.WalkDirFunc) error {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		full := path.Join(prefix, name)
		mode := fs.FileMode(0o644)
		if m[name] != nil {
			mode = fs.ModeDir | 0o755
		}
		err := fn(full, &fsutil.DirEntryInfo{Stat: &types.Stat{Path: full, Mode: uint32(mode)}}, nil)
		if err == fs.SkipDir {
			if m[name] == nil {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		if m[name] != nil {
			if err := m[name].walk(full, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func ask(q question) (kept []string, err error) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(q.Ignore))
	if err != nil {
		return nil, err
	}
	root := memory{}
	for _, file := range q.Files {
		root.add(file)
	}
	filtered, err := fsutil.NewFilterFS(root, &fsutil.FilterOpt{ExcludePatterns: patterns})
	if err != nil {
		return nil, err
	}
	err = filtered.Walk(context.Background(), "/", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			kept = append(kept, path)
		}
		return err
	})
	return kept, err
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q question
		if err := decoder.Decode(&q); err == io.EOF {
			break
		} else if err != nil {
			panic(err)
		}
		kept, err := ask(q)
		a := answer{Kept: kept}
		if err != nil {
			a.Error = err.Error()
		}
		if err := encoder.Encode(a); err != nil {
			panic(err)
		}
	}
	if err := out.Flush(); err != nil {
		panic(err)
	}
}
