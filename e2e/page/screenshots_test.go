package page_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"authgear-forward-auth/internal/authgeartest"
)

var (
	update = flag.Bool("update", false, "make the pictures of docs/status-page.md anew")
	long   = flag.Duration("long", 2*time.Minute, "how long the service works before its picture is taken")
)

// most is how many bytes a picture may have.
const most = 300 << 10

var pictures = map[string]string{"light": "../../docs/status-page-light.png", "dark": "../../docs/status-page-dark.png"}

// The pictures are made by `go test -run Pictures -update`, in some two minutes.
func TestThePicturesOfThePage(t *testing.T) {
	if *update {
		takePictures(t)
	}
	for _, file := range pictures {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(bytes.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if size := picture.Bounds().Size(); len(content) > most || size.X < 1000 || size.Y < 700 {
			t.Errorf("%s: %d bytes for %v", file, len(content), size)
		}
	}
}

func takePictures(t *testing.T) {
	s := with(t, far(t, func() time.Duration { return time.Duration(4+rand.ExpFloat64()*6) * time.Millisecond }), "AUTHGEAR_MAX_STALENESS=10s")
	b := open(t, s.page, 1240, 1000)
	ctx, cancel := context.WithTimeout(t.Context(), *long)
	defer cancel()
	wave := func(elapsed time.Duration) int { return int(260 + 140*math.Sin(elapsed.Seconds()/9)) }
	if err := s.traffic(ctx, wave, s.scene()); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.SendKeys(chromedp.CSS("#credentials"), s.expired(s.authgear.AddUser(authgeartest.User{ID: "ada"}))))
	b.press("\t", "\t", "\r")
	b.until("#verdict", "expired")
	b.do(chromedp.Click(chromedp.CSS("#denied summary")))
	for scheme, file := range pictures {
		b.prefer("prefers-color-scheme: " + scheme)
		b.do(chromedp.EmulateViewport(1240, 1650))
		eval[bool](b, "scrollTo(0, 0) === undefined")
		content, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scene returns what people do with a shop, for most of them with good sessions.
func (s *stand) scene() func(n int) (policy, original, token string) {
	var good []string
	for i := range 120 {
		u := s.authgear.AddUser(authgeartest.User{ID: fmt.Sprintf("customer-%d", i), Roles: []string{"customer"}})
		good = append(good, s.authgear.JWT(u), s.authgear.OpaqueToken(u))
	}
	bob := s.authgear.AddUser(authgeartest.User{ID: "bob", Roles: []string{"customer"}})
	bobs, expired := s.authgear.JWT(bob), s.expired(bob)
	return func(n int) (policy, original, token string) {
		order := fmt.Sprintf("https://shop.example.com/orders/%d", n)
		switch {
		case n%211 == 0:
			return "role=admin", "https://shop.example.com/admin/users", bobs
		case n%97 == 0:
			return "", order, ""
		case n%83 == 0:
			return "", order, expired
		case n%389 == 0:
			return "", order, "z" + good[1]
		}
		return "", order, good[rand.IntN(len(good))]
	}
}
