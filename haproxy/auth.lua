-- Asks authgear-forward-auth about each request: may it pass, and who sent it?
-- It goes with the haproxy.cfg beside it and needs HAProxy 2.6 with Lua, as
-- Debian's package has it; nothing else.

-- Where "listen authgear_forward_auth" of haproxy.cfg listens. It hands on the
-- questions over connections that it keeps, and gives up first: patience, in
-- milliseconds, is for when it does not.
local url = "http://127.0.0.1:4179/haproxy"
local patience = 15000

-- The fields that tell the application who is asking. Each 200 has all of them.
local identity = {
  "x-authgear-session-valid", "x-authgear-user-id", "x-authgear-user-anonymous", "x-authgear-user-verified",
  "x-authgear-user-roles", "x-authgear-user-can-reauthenticate", "x-authgear-session-amr",
  "x-authgear-session-authenticated-at", "x-authgear-client-id", "x-authgear-scope",
}

-- The client's own fields that the service is told.
local told = {
  "authorization", "cookie",
  "accept", "sec-fetch-mode", -- by these a page is known, for sign_in
  -- By these a preflight is known, and what only looks like one.
  "origin", "access-control-request-method", "x-http-method-override", "x-http-method", "x-method-override",
}

-- lines returns the lines of a field in the order in which they came.
local function lines(headers, name)
  local field, list = headers[name], {}
  for i = 0, field and #field or -1 do
    list[#list + 1] = field[i]
  end
  return list
end

-- ask puts the question. Of the client's own words only these fields go along, line
-- by line as they came: two Authorization lines are for the service to refuse.
local function ask(txn, policy)
  local sent = txn.http:req_get_headers()
  local headers = {
    ["user-agent"] = {txn.sf:req_fhdr("user-agent")},
    ["x-forwarded-for"] = {txn.sf:src()}, -- whom the client names is not believed
    ["x-forwarded-method"] = {txn.sf:method()},
    ["x-forwarded-proto"] = {txn.sf:ssl_fc() == "1" and "https" or "http"},
    ["x-forwarded-host"] = {txn.sf:req_fhdr("host")},
    ["x-forwarded-uri"] = {txn.sf:pathq()},
  }
  for _, name in ipairs(told) do
    headers[name] = lines(sent, name)
  end
  return core.httpclient():get{url = url .. policy, timeout = patience, headers = headers}
end

-- http-request lua.authgear: the policy is the variable txn.authgear_policy, such
-- as ?role=admin; without it a signed-in user passes. For what passes,
-- txn.authgear_status becomes 200. It is for haproxy.cfg to let nothing else pass.
core.register_action("authgear", {"http-req"}, function(txn)
  local answer = ask(txn, txn:get_var("txn.authgear_policy") or "")
  local said = answer.headers or {}

  -- A nil would become false, and the client would be sent a 0.
  local function keep(variable, value)
    if value then txn:set_var(variable, value) end
  end
  keep("txn.authgear_set_cookie", lines(said, "set-cookie")[1])
  if answer.status == 401 or answer.status == 403 then
    keep("txn.authgear_location", answer.status == 401 and lines(said, "location")[1]) -- only with sign_in
    keep("txn.authgear_challenge", lines(said, "www-authenticate")[1])
    keep("txn.authgear_body", answer.body)
    txn:set_var("txn.authgear_status", answer.status)
    return
  end
  -- What the service cannot read, or is too long for it, is the client's own doing: no outage, and
  -- nothing for the log.
  if (answer.status == 400 or answer.status == 431) and lines(said, "cache-control")[1] == "no-store" then
    txn:set_var("txn.authgear_status", answer.status)
    return
  end
  -- All else is no verdict, nor is a 200 of somebody else who listens there.
  if answer.status ~= 200 or not said["x-authgear-session-valid"] then
    txn:Warning("authgear-forward-auth gives no verdict: status " .. tostring(answer.status))
    return
  end
  for _, name in ipairs(identity) do
    local value = lines(said, name)[1] or ""
    txn.http:req_del_header(name)
    if value ~= "" then
      txn.http:req_add_header(name, value)
    end
  end
  -- Where the client's fields fill the buffer, HAProxy adds nothing and does not say so.
  local set = txn.http:req_get_headers()
  for _, name in ipairs(identity) do
    if (lines(set, name)[1] or "") ~= (lines(said, name)[1] or "") then
      txn:set_var("txn.authgear_status", 431)
      return
    end
  end
  txn:set_var("txn.authgear_status", 200)
end)

-- http-request use-service lua.authgear_denies answers what does not pass. Without a
-- verdict that is 503: an outage must not be taken for a sign-out. (An action that
-- answers by itself, by txn:done, breaks the connection while the client still sends,
-- and the answer may be lost.)
core.register_service("authgear_denies", "http", function(applet)
  local status, body = applet:get_var("txn.authgear_status"), applet:get_var("txn.authgear_body") or ""
  local challenge, location = applet:get_var("txn.authgear_challenge"), applet:get_var("txn.authgear_location")
  if status == 400 then
    body = '{"error":"invalid_request","error_description":"A field has a byte that HTTP does not allow."}'
  elseif status == 431 then
    body = '{"error":"invalid_request","error_description":"The fields are too long. Are there many cookies?"}'
  elseif status ~= 401 and status ~= 403 then
    status, body = 503, '{"error":"temporarily_unavailable","error_description":"Try again in a moment."}'
    applet:add_header("retry-after", "1")
  end
  if location then
    status, body, challenge = 302, "", nil
    applet:add_header("location", location)
  end
  if challenge then
    applet:add_header("www-authenticate", challenge)
  end
  applet:set_status(status)
  applet:add_header("content-type", "application/json")
  applet:add_header("cache-control", "no-store")
  applet:add_header("content-length", #body)
  applet:start_response()
  if applet.method ~= "HEAD" then
    applet:send(body)
  end
end)

-- path,lua.authgear_path is a path as the most lenient application may read it:
-- decoded, without parameters (;a=b), empty segments, . and .., and with a / at its end.
core.register_converters("authgear_path", function(path)
  local decoded = path:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  local list = {}
  for segment in decoded:gmatch("[^/\\]+") do
    segment = segment:gsub(";.*", "")
    if segment == ".." then
      list[#list] = nil
    elseif segment ~= "" and segment ~= "." then
      list[#list + 1] = segment
    end
  end
  return "/" .. table.concat(list, "/") .. "/"
end)
