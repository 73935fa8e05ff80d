// Program goproxy packs a Go module as GOPROXY serves it: FOLDER/<module>/@v/{list,VERSION.info,VERSION.mod,VERSION.zip}.
//
// Usage: goproxy MODULE_DIRECTORY LICENSE VERSION FOLDER
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: goproxy MODULE_DIRECTORY LICENSE VERSION FOLDER"))
	}
	if err := pack(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "goproxy:", err)
	os.Exit(1)
}

func pack(directory, license, version, folder string) error {
	mod, err := os.ReadFile(filepath.Join(directory, "go.mod"))
	if err != nil {
		return err
	}
	packed := module.Version{Path: modfile.ModulePath(mod), Version: version}
	escaped, err := module.EscapePath(packed.Path)
	if err != nil {
		return err
	}
	versions := filepath.Join(folder, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(struct{ Version string }{version})
	if err != nil {
		return err
	}
	texts := map[string][]byte{"list": []byte(version + "\n"), version + ".info": info, version + ".mod": mod}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(versions, name), text, 0o644); err != nil {
			return err
		}
	}
	return archive(packed, directory, license, filepath.Join(versions, version+".zip"))
}

// archive writes the zip of the module, with the licence of the project.
func archive(packed module.Version, directory, license, path string) error {
	checked, err := zip.CheckDir(directory)
	if err != nil {
		return err
	}
	files := []zip.File{file{path: "LICENSE", source: license}}
	for _, source := range checked.Valid {
		path, err := filepath.Rel(directory, source)
		if err != nil {
			return err
		}
		files = append(files, file{path: filepath.ToSlash(path), source: source})
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := zip.Create(out, packed, files); err != nil {
		return err
	}
	return out.Close()
}

// file is a file of this machine that gets another path in the module.
type file struct{ path, source string }

func (f file) Path() string                 { return f.path }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.source) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.source) }
