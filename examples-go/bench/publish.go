package main

import (
	"encoding/json"
	"os/exec"
	"slices"
)

// measurePublish lets processes publish from C and from Go in turns.
func measurePublish(o *options, r *report) error {
	program, err := o.build("publisher")
	if err != nil {
		return err
	}
	rounds := o.rounds
	if o.quick {
		rounds = 2
	}
	for range rounds {
		for _, from := range []string{"c", "go"} {
			said, err := exec.Command(program, from).Output()
			if err != nil {
				return err
			}
			var times map[string][]float64
			if err := json.Unmarshal(said, &times); err != nil {
				return err
			}
			for call, ns := range times {
				r.Values[call+" "+from+" ns"] = append(r.Values[call+" "+from+" ns"], ns...)
			}
		}
	}
	r.printf("## Publishing: 100 bytes, nobody subscribed, ns a call\n\n")
	r.printf("| call | C, fastest | Go, fastest | Go - C | Go / C | C, median | Go, median | Go / C |\n|---|---|---|---|---|---|---|---|\n")
	for _, call := range []string{"publish", "message", "batch", "batch positions"} {
		// Other work on the machine can only add time.
		c, g := slices.Min(r.Values[call+" c ns"]), slices.Min(r.Values[call+" go ns"])
		r.add(call+" more ns", g-c)
		r.add(call+" ratio", g/c)
		cm, gm := r.middle(call+" c ns"), r.middle(call+" go ns")
		r.printf("| %s | %.0f | %.0f | %.0f | %.3f | %.0f | %.0f | %.3f |\n", call, c, g, g-c, g/c, cm, gm, gm/cm)
	}
	return nil
}
