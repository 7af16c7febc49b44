package push_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestWithoutCgoOneSentenceSaysWhatIsNeeded(t *testing.T) {
	for _, directory := range []string{".", "../cmd/hello"} {
		build := exec.Command("go", "build", "-o", os.DevNull, ".")
		build.Dir = directory
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		said, err := build.CombinedOutput()
		if err == nil {
			t.Fatal("it was built")
		}
		lines := strings.Split(strings.TrimSpace(string(said)), "\n")
		if len(lines) != 2 || !strings.Contains(lines[1], "the package push needs cgo: build with CGO_ENABLED=1, a C compiler") {
			t.Errorf("%s: %s", directory, said)
		}
	}
}
