package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	houseRoot   = "../.."
	houseModule = "github.com/tollgate/tollgate/"
)

// houseFile is a Go file of the tree. Paths have slashes and begin at the root.
type houseFile struct {
	path, folder string
	test         bool
	lines        int
	syntax       *ast.File
	imports      []string // those of the tree without the module's name
}

// house is the tree.
type house struct {
	positions *token.FileSet
	files     []*houseFile
	texts     map[string]string // whatever else people read: by path
	folders   []string          // with Go files that are no tests
}

// openHouse reads and parses the tree.
func openHouse(t *testing.T) *house {
	h := &house{positions: token.NewFileSet(), texts: map[string]string{}}
	err := filepath.WalkDir(houseRoot, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.ToSlash(strings.TrimPrefix(filepath.Clean(name), filepath.Clean(houseRoot)+string(filepath.Separator)))
		switch base := d.Name(); {
		case d.IsDir() && (base == ".git" || base == "bin" || base == "testdata"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case path.Ext(base) == ".go":
			return h.addGo(name, at)
		case slices.Contains([]string{".md", ".lua", ".sql", ".yml"}, path.Ext(base)) || base == "Makefile" || base == "go.mod":
			text, err := os.ReadFile(name)
			h.texts[at] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range h.files {
		if !f.test && !slices.Contains(h.folders, f.folder) {
			h.folders = append(h.folders, f.folder)
		}
	}
	return h
}

// addGo parses one Go file.
func (h *house) addGo(name, at string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f := &houseFile{path: at, folder: path.Dir(at), test: strings.HasSuffix(at, "_test.go"), lines: bytes.Count(text, []byte("\n"))}
	if f.syntax, err = parser.ParseFile(h.positions, at, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return err
	}
	for _, i := range f.syntax.Imports {
		imported, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return err
		}
		f.imports = append(f.imports, strings.TrimPrefix(imported, houseModule))
	}
	h.files = append(h.files, f)
	return nil
}

// isCommand tells whether a folder's code is a program.
func (h *house) isCommand(folder string) bool {
	return slices.ContainsFunc(h.files, func(f *houseFile) bool { return f.folder == folder && f.syntax.Name.Name == "main" })
}

// span is the number of lines that a part of a file takes.
func (h *house) span(n ast.Node) int {
	return h.positions.Position(n.End()).Line - h.positions.Position(n.Pos()).Line + 1
}

// functions lists the functions and methods of a file.
func (f *houseFile) functions() (all []*ast.FuncDecl) {
	for _, d := range f.syntax.Decls {
		if fn, isFunc := d.(*ast.FuncDecl); isFunc {
			all = append(all, fn)
		}
	}
	return all
}

// within tells whether a path is one of the parts of the tree, or lies in one.
func within(name string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return name == part || strings.HasPrefix(name, part+"/") })
}

// ofTree tells whether an import is of the tree: in the standard library and in modules nothing is called so.
func ofTree(imported string) bool {
	return within(imported, "rater", "balance", "sink", "bench", "deploy", "cmd")
}

// undocumented gives the exported names of a declaration that have no comment. One comment may open a group of constants
// or variables. Methods of types that nobody outside can name need none.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	if fn, isFunc := d.(*ast.FuncDecl); isFunc {
		if fn.Name.IsExported() && fn.Doc == nil && (fn.Recv == nil || receiver(fn).IsExported()) {
			names = append(names, fn.Name)
		}
		return names
	}
	group := d.(*ast.GenDecl)
	for _, spec := range group.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && (group.Doc == nil || len(group.Specs) > 1) {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && s.Doc == nil && s.Comment == nil && group.Doc == nil {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// receiver is the type that a method belongs to.
func receiver(fn *ast.FuncDecl) *ast.Ident {
	for e := fn.Recv.List[0].Type; ; {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x
		default:
			panic(fmt.Sprintf("BUG: a receiver of type %T", e))
		}
	}
}
