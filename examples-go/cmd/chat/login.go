package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	cookieName  = "chat"
	loginLasts  = 12 * time.Hour
	longestName = 24
	mostLogins  = 10000
)

// logins is the service's login: a client with the cookie has the name. A name belongs to one cookie at a time.
type logins struct {
	mu    sync.Mutex
	names map[string]login // by the cookie's value
}

type login struct {
	name string
	ends time.Time
}

func newLogins() *logins {
	return &logins{names: map[string]login{}}
}

// enter logs a name in, and sets a cookie for it.
func (l *logins) enter(name string) (*http.Cookie, error) {
	name = strings.Join(strings.Fields(name), " ")
	if err := checkName(name); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for token, known := range l.names {
		switch {
		case now.After(known.ends):
			delete(l.names, token)
		case strings.EqualFold(known.name, name):
			return nil, errors.New("somebody has that name; take another")
		}
	}
	if len(l.names) >= mostLogins {
		return nil, errors.New("the house is full")
	}
	token := rand.Text()
	l.names[token] = login{name, now.Add(loginLasts)}
	return &http.Cookie{
		Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(loginLasts.Seconds()),
	}, nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("say a name")
	}
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > longestName {
		return errors.New("a name has at most 24 letters")
	}
	for _, letter := range name {
		if !unicode.IsPrint(letter) {
			return errors.New("a name has no such letters")
		}
	}
	return nil
}

// name returns the name of the client.
func (l *logins) name(r *http.Request) (string, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.names[cookie.Value]
	return known.name, ok && time.Now().Before(known.ends)
}

// leave gives the name back.
func (l *logins) leave(r *http.Request) (string, bool) {
	name, ok := l.name(r)
	if ok {
		cookie, _ := r.Cookie(cookieName) // name has found it
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.names, cookie.Value)
	}
	return name, ok
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(value) // a client that is gone needs no answer
}
