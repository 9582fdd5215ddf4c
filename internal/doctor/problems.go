package doctor

// A problem is what a check may find.
type problem struct {
	title  string
	remark bool // good to know; not a hole by itself
	why    string
	cure   map[string]string // what to change, by proxy; "" for all others
}

var visitorsPass = &problem{
	title: "Visitors pass",
	why:   "The application gets requests of nobody, and must refuse each by itself. Authgear's resolver answers 200 to everybody. Where visitors are welcome: -optional.",
	cure: map[string]string{
		"nginx":   "location = /_authgear { proxy_pass http://authgear_forward_auth/nginx; … }   # answers 401; not the resolver",
		"traefik": "forwardAuth: {address: \"http://127.0.0.1:4180/traefik\"}   # on each router; not the resolver",
		"caddy":   "forward_auth 127.0.0.1:4180 { uri /caddy? }   # in `route`, before reverse_proxy; not the resolver",
		"haproxy": "http-request use-service lua.authgear_denies unless path_is_read passes",
		"envoy":   "path_prefix: /envoy   # and failure_mode_allow: false",
	},
}

var nothingArrives = &problem{
	title:  "It is not known whether the route leads to the doctor",
	remark: true,
	why:    "Nothing has arrived yet. If the route leads elsewhere, what gets past the proxy is not seen here.",
	cure:   map[string]string{"": "A good access token shows it: -token FILE."},
}

var identityForged = &problem{
	title: "A client can forge who it is",
	why:   "A field that the proxy neither sets nor removes reaches the application as the client wrote it, also roles.",
	cure: map[string]string{
		"nginx":   "proxy_set_header X-Authgear-User-Roles $authgear_user_roles;   # one line for each field; in the location, if it has a proxy_set_header",
		"traefik": "authResponseHeadersRegex: ^X-Authgear-   # instead of authResponseHeaders",
		"caddy":   "request_header -*authgear*   # in `route`, before forward_auth",
		"haproxy": "http-request del-header ^x[^a-z0-9]authgear[^a-z0-9] -m reg   # before the question",
		"envoy":   "header_mutation, before ext_authz: remove_on_match: { key_matcher: { safe_regex: { regex: \"x[^a-z0-9]authgear[^a-z0-9].*\" } } }",
	},
}

var noIdentity = &problem{
	title:  "The application does not learn who sent a request",
	remark: true,
	why:    "Is the token still good? A machine-to-machine token has no user; for others the proxy must hand on the fields of the answer.",
	cure: map[string]string{
		"nginx":   "auth_request_set $authgear_user_id $upstream_http_x_authgear_user_id; proxy_set_header X-Authgear-User-Id $authgear_user_id;",
		"traefik": "authResponseHeadersRegex: ^X-Authgear-",
		"caddy":   "copy_headers X-Authgear-User-Id …   # in forward_auth",
		"haproxy": "auth.lua sets the fields; del-header comes before it.",
		"envoy":   "allowed_upstream_headers: { patterns: [{ prefix: x-authgear-, ignore_case: true }] }",
	},
}

var aliasForged = &problem{
	title: "A client can forge who it is, with another sign in the name",
	why:   "Many applications read X_Authgear_User_Id and X.Authgear.User.Id as X-Authgear-User-Id: WSGI, CGI, PHP.",
	cure: map[string]string{
		"nginx":   "underscores_in_headers off; ignore_invalid_headers on;",
		"traefik": "aliasHeadersStrategy: delete   # in http: of the entry point, Traefik 3.7.12 or later",
		"caddy":   "Caddy 2.11.9 or later, and no expected_underscore_headers",
		"haproxy": "http-request del-header ^x[^a-z0-9]authgear[^a-z0-9] -m reg   # before the question",
		"envoy":   "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }   # and header_mutation as in envoy.yaml, for the dots",
	},
}

var unknownPasses = &problem{
	title:  "An X-Authgear field that nobody knows passes",
	remark: true,
	why:    "The application must not read X-Authgear fields other than those of the README: a client may write them.",
	cure: map[string]string{
		"nginx": "None: nginx cannot remove fields by how their name begins.",
		"":      "Remove all X-Authgear fields, as the shipped configuration does.",
	},
}

var trailerPasses = &problem{
	title:  "A trailer with an identity passes",
	remark: true,
	why:    "Behind a chunked body a client may write what looks like fields. The application must not take trailers for fields; by default none does.",
	cure: map[string]string{
		"caddy":   "None: Caddy passes them on.",
		"haproxy": "None: HAProxy passes them on.",
		"":        "See that the application does not merge trailers into fields.",
	},
}

var identityTaken = &problem{
	title: "A client can take its identity away",
	why:   "A field that Connection names ends at the proxy, also one that the proxy has set itself: the application sees a part of the truth.",
	cure: map[string]string{
		"nginx":   "proxy_set_header Connection $connection_upgrade;   # never $http_connection",
		"traefik": "Traefik is known to be immune: look at what stands before or behind it.",
		"caddy":   "request_header @other -Connection   # in `route`, before forward_auth",
		"haproxy": "http-request del-header Connection",
		"envoy":   "Envoy is known to be immune: look at what stands before or behind it.",
	},
}

var twoCredentials = &problem{
	title: "A request with two Authorization lines passes",
	why:   "The one who decides and the application may read different ones, so that one is let in and another is served.",
	cure: map[string]string{
		"": "Ask authgear-forward-auth: it takes none of two. nginx answers 400 by itself.",
	},
}

var tunnel = &problem{
	title: "A client can turn its connection into one of HTTP/2",
	why:   "If the application accepts Upgrade: h2c, all further requests on that connection pass of which nobody asks.",
	cure: map[string]string{
		"nginx":   "map $http_upgrade $upgrade { default \"\"; ~*^websocket$ websocket; }   # and proxy_set_header Upgrade $upgrade;",
		"traefik": "Traefik is known to remove it: look at what stands before or behind it.",
		"caddy":   "request_header @other -Upgrade   # and -Connection, in `route`, before forward_auth; and request_header @websocket Upgrade websocket",
		"haproxy": "http-request del-header Upgrade unless websocket",
		"envoy":   "upgrade_configs: [{ upgrade_type: websocket }]   # and nothing else",
	},
}

var otherProtocol = &problem{
	title:  "A client can ask the application for another protocol than WebSocket",
	remark: true,
	why:    "What is said in that protocol passes unasked. An application that knows none is not affected.",
	cure: map[string]string{
		"traefik": "None: Traefik passes on any Upgrade but h2c.",
		"":        "The line for Upgrade in the shipped configuration passes WebSockets alone.",
	},
}

var sharedVerdict = &problem{
	title: "One user is served as another",
	why:   "The verdict is kept under a key that lacks a part of the credentials: whoever comes next with the same key is taken for that user.",
	cure: map[string]string{
		"nginx": "Remove proxy_cache, proxy_cache_key and proxy_cache_valid from the location of auth_request; authgear-forward-auth remembers by itself.",
		"":      "Keep no verdicts in the proxy; authgear-forward-auth remembers by itself, under all of the credentials.",
	},
}

var sharedPage = &problem{
	title: "One user's page is given to another",
	why:   "The proxy keeps pages, or their Set-Cookie, under a key in which the user is not.",
	cure: map[string]string{
		"nginx":   "proxy_cache off;   # in the protected location",
		"traefik": "Take the cache middleware from the protected router.",
		"caddy":   "Take the cache directive from the protected route.",
		"haproxy": "No http-request cache-use in the protected frontend.",
		"envoy":   "No cache filter on the protected route.",
	},
}

var keptPage = &problem{
	title:  "The proxy keeps pages of a protected route",
	remark: true,
	why:    "Its key must hold who is asking. Here the same user was given a page twice, so it may be right.",
	cure:   map[string]string{"": "Cache-Control: private   # from the application"},
}

var keptDenial = &problem{
	title: "A denial may be kept by a cache",
	why:   "Who has signed in would still be denied.",
	cure:  map[string]string{"": "Cache-Control: no-store   # on 401 and 403"},
}

var claimBelieved = &problem{
	title: "What a client says of its own request changes the verdict",
	why:   "X-Forwarded-* and X-Original-* are for the proxy to write. From a client they may open a route, or change the project that is asked.",
	cure: map[string]string{
		"nginx":   "proxy_set_header X-Forwarded-Host \"\";   # in the location of the question; set or empty each of those named",
		"traefik": "trustForwardHeader: false   # and authRequestHeaders: [Authorization, Cookie, User-Agent, Accept, Sec-Fetch-Mode, Origin, Access-Control-Request-Method, X-HTTP-Method-Override, X-HTTP-Method, X-Method-Override]",
		"caddy":   "header_up -X-Original-*   # in forward_auth; and no trusted_proxies that hold clients",
		"haproxy": "Of the client's fields, send the question those that auth.lua names, and no others.",
		"envoy":   "use_remote_address: true   # and no more allowed_headers than cookie, user-agent, x-forwarded-for",
	},
}

var queryIsPolicy = &problem{
	title: "The client's query says who may pass",
	why:   "The proxy puts the query of the request behind the question, where it is the policy: ?optional lets everybody in.",
	cure: map[string]string{
		"nginx": "proxy_pass http://authgear_forward_auth/nginx;   # a fixed query, without $request_uri",
		"caddy": "uri /caddy?   # the question mark stays",
		"envoy": "path_prefix: /envoy   # where the query is never a policy",
		"":      "A fixed path and query for the question.",
	},
}

var pathEvades = &problem{
	title: "Another spelling of the path evades the protection",
	why:   "The request arrives unasked. An application that reads such a path as the protected one serves everybody.",
	cure: map[string]string{
		"nginx":   "auth_request /_authgear;   # in server {}, so that an unlisted location is protected, too",
		"traefik": "sanitizePath: true   # and a router for / with the same middleware",
		"caddy":   "handle { route { import authgear \"\" … } }   # for whatever has no handle of its own",
		"haproxy": "http-request set-var(txn.authgear_path) path,lua.authgear_path   # and protect all that is not named",
		"envoy":   "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: REJECT_REQUEST",
	},
}

var methodEvades = &problem{
	title: "Another method evades the protection",
	why:   "The application gets such requests unasked. Many serve HEAD and unknown methods as GET, and some take the method in X-HTTP-Method-Override for that of the request. To let CORS preflights pass, and nothing that looks like one: `preflight` in the policy.",
	cure: map[string]string{
		"nginx":   "No limit_except and no `if ($request_method …)` around auth_request.",
		"traefik": "No Method(`…`) in the rule of the protected router.",
		"caddy":   "No `method` in the matcher of the protected route.",
		"haproxy": "No METH_* in the conditions of lua.authgear and lua.authgear_denies.",
		"envoy":   "No :method in a route that disables ext_authz.",
	},
}

var preflightPasses = &problem{
	title:  "A CORS preflight passes",
	remark: true,
	why:    "Browsers send it without a credential, so it may be meant so. The application must answer it and do nothing else.",
	cure:   map[string]string{"": "Without `preflight` in the policy none passes."},
}

var otherPath = &problem{
	title:  "A client can tell the application another path",
	remark: true,
	why:    "Some frameworks take a path in X-Original-URL, X-Rewrite-URL or X-Forwarded-* for that of the request, or cut from it what X-Script-Name says: one path is asked about, and another is served.",
	cure: map[string]string{
		"nginx":   "proxy_set_header X-Original-URL \"\";   # and X-Original-URI, X-Rewrite-URL, X-Forwarded-Uri, X-Forwarded-Prefix, X-Script-Name",
		"traefik": "headers: {customRequestHeaders: {X-Original-URL: \"\", X-Original-URI: \"\", X-Rewrite-URL: \"\", X-Script-Name: \"\"}}   # a middleware of the entry point",
		"caddy":   "request_header -*original*   # and -*rewrite*, -*uri, -*prefix, -*script-name, before forward_auth",
		"haproxy": "http-request del-header ^x-(original-ur[il]|rewrite-url|forwarded-(uri|prefix)|script-name)$ -m reg",
		"envoy":   "header_mutation, before ext_authz: remove_on_match, as in envoy.yaml",
	},
}

var bodyLost = &problem{
	title: "A POST does not arrive whole",
	why:   "The body is the application's. A question that announces a body and has none makes who is asked wait for it.",
	cure: map[string]string{
		"nginx":   "proxy_pass_request_body off; proxy_set_header Content-Length \"\";   # in the location of the question",
		"traefik": "No forwardBody in forwardAuth.",
		"haproxy": "Send the question no body and no Transfer-Encoding, as auth.lua does.",
		"":        "A question without a body and without Content-Length.",
	},
}

var bodyTooLong = &problem{
	title:  "A POST of 1 MB is too long for the proxy",
	remark: true,
	why:    "It answers 413 by itself, which may be meant so.",
	cure:   map[string]string{"nginx": "client_max_body_size 10m;", "": "The limit of the proxy for bodies."},
}

var unclearDenial = &problem{
	title:  "A program cannot tell that it must sign in",
	remark: true,
	why:    "A program that is not signed in needs 401. A redirect shows it a page, 403 says that nothing helps, and 5xx is an outage.",
	cure: map[string]string{
		"nginx": "error_page 401 @unauthenticated;   # there: return 302 only if ($http_sec_fetch_mode = navigate)",
		"":      "Pass on the 401 of the service; redirect only where Sec-Fetch-Mode is navigate.",
	},
}

var challengeNotOnce = &problem{
	title:  "A 401 must have one WWW-Authenticate",
	remark: true,
	why:    "It tells a client how to sign in (RFC 9110 §11.6.1); some read only one.",
	cure: map[string]string{
		"nginx": "nginx passes on that of the question by itself: no add_header WWW-Authenticate.",
		"":      "Pass on the WWW-Authenticate of the service, and add none.",
	},
}
