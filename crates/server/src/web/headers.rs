//! What every answer says about how it may be used.

use crate::config::TlsMode;
use crate::server::Shared;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

const FIXED: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), screen-wake-lock=(self), speaker-selection=(self), \
         fullscreen=(self), geolocation=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("x-frame-options"), "DENY"),
];

/// Adds them.
pub async fn add(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .map(str::to_owned);
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = policy(&shared.config.public_url, host.as_deref());
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if shared.config.tls.mode == TlsMode::Files {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

/// Files of our own only. `connect-src` names the WebSocket too: not every browser counts it as `'self'`.
fn policy(public_url: &str, host: Option<&str>) -> String {
    let public = public_url.split_once("://").map(|(_, host)| host);
    let allowed = |host: &&str| {
        host.bytes()
            .all(|c| c.is_ascii_alphanumeric() || b".-_:[]".contains(&c))
    };
    let socket = public
        .or(host)
        .filter(allowed)
        .map_or(String::new(), |host| format!(" ws://{host} wss://{host}"));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         media-src 'self' blob: mediastream:; connect-src 'self'{socket}; worker-src 'self' blob:; font-src 'self'; \
         manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )
}

#[cfg(test)]
mod tests {
    use super::policy;

    #[test]
    fn a_strange_host_cannot_write_into_the_policy() {
        assert!(!policy("", Some("a; script-src *")).contains("script-src *"));
        assert!(
            policy("", Some("a.b:80")).contains("connect-src 'self' ws://a.b:80 wss://a.b:80;")
        );
        assert!(
            policy("https://c.d", Some("a.b:80"))
                .contains("connect-src 'self' ws://c.d wss://c.d;")
        );
    }
}
