package authgeartest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// hook is where events are sent, and by which secret they are signed.
type hook struct {
	url, secret string
	seq         int
}

// Webhook makes the server send its events to url, signed with secret; an empty
// url sends none. As with the real one, each is sent once, by a goroutine of its
// own, when the change is done already; what becomes of it is not looked at, and
// the end of a session is no event. Contract §6.
func (s *Server) Webhook(url, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook.url, s.hook.secret = url, secret
}

// Reenable lets u sign in again. The credentials from before stay dead.
func (s *Server) Reenable(u *User) {
	s.Edit(u, func(u *User) { u.Disabled = false })
	s.tell("user.reenabled", u)
}

// UpdateProfile changes u by an event, which a change of roles alone is not.
func (s *Server) UpdateProfile(u *User, change func(*User)) {
	s.Edit(u, change)
	s.tell("user.profile.updated", u)
}

// An event has the fields of the recorded deliveries, in their order.
type event struct {
	ID      string       `json:"id"`
	Seq     int          `json:"seq"`
	Type    string       `json:"type"`
	Payload eventPayload `json:"payload"`
	Context eventContext `json:"context"`
}

type eventPayload struct {
	User eventUser `json:"user"`
}

type eventUser struct {
	ID                 string         `json:"id"`
	CreatedAt          time.Time      `json:"created_at"`
	UpdatedAt          time.Time      `json:"updated_at"`
	IsAnonymous        bool           `json:"is_anonymous"`
	IsVerified         bool           `json:"is_verified"`
	IsDisabled         bool           `json:"is_disabled"`
	IsDeactivated      bool           `json:"is_deactivated"`
	IsAnonymized       bool           `json:"is_anonymized"`
	CanReauthenticate  bool           `json:"can_reauthenticate"`
	StandardAttributes map[string]any `json:"standard_attributes"`
	CustomAttributes   struct{}       `json:"custom_attributes"`
	Web3               struct{}       `json:"x_web3"`
	Roles              []string       `json:"roles"`
	Groups             []string       `json:"groups"`
}

type eventContext struct {
	Timestamp    int64             `json:"timestamp"` // in whole seconds
	UserID       string            `json:"user_id"`
	TriggeredBy  string            `json:"triggered_by"`
	AuditContext map[string]string `json:"audit_context"`
	Preferred    []string          `json:"preferred_languages"`
	Language     string            `json:"language"`
	IPAddress    string            `json:"ip_address"`
	GeoLocation  *string           `json:"geo_location_code"`
	AppID        string            `json:"app_id"`
	TrackingID   string            `json:"tracking_id"`
}

// tell sends an event that an administrator caused, without waiting.
func (s *Server) tell(kind string, u *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hook.url == "" {
		return
	}
	s.hook.seq += 2 // it has gaps
	body, err := json.Marshal(s.event(kind, u))
	if err != nil {
		panic(fmt.Sprintf("authgeartest: encoding an event: %v", err))
	}
	go deliver(s.hook.url, s.hook.secret, body)
}

func (s *Server) event(kind string, u *User) event {
	now := s.Now().UTC()
	return event{
		ID:   fmt.Sprintf("%016x", s.hook.seq),
		Seq:  s.hook.seq,
		Type: kind,
		Payload: eventPayload{eventUser{
			ID: u.ID, CreatedAt: now.Add(-time.Hour), UpdatedAt: now,
			IsAnonymous: u.Anonymous, IsVerified: u.Verified, IsDisabled: u.Disabled, CanReauthenticate: u.CanReauthenticate,
			StandardAttributes: map[string]any{"email": u.ID + "@example.com", "email_verified": u.Verified, "updated_at": now.Unix()},
			Roles:              append([]string{}, u.Roles...), Groups: []string{},
		}},
		Context: eventContext{
			Timestamp: now.Unix(), UserID: u.ID, TriggeredBy: "admin_api",
			AuditContext: map[string]string{"http_url": s.origin + "/graphql"},
			Preferred:    []string{}, Language: "en", IPAddress: "127.0.0.1", AppID: "lab",
			TrackingID: newJTI()[:32] + "-" + newJTI()[:16],
		},
	}
}

// outbound follows no redirection, and waits as long as the real one.
var outbound = &http.Client{
	Timeout:       time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func deliver(url, secret string, body []byte) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-authgear-body-signature", hex.EncodeToString(mac.Sum(nil)))
	if resp, err := outbound.Do(req); err == nil {
		resp.Body.Close()
	}
}
