//! The web app, built into the program. `build.rs` lists the files of `web/dist`, or one page that says how to build
//! them.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

/// One file.
#[derive(Debug)]
pub struct Asset {
    /// From the root, without a leading slash.
    pub path: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
    /// Entity tag, in quotes.
    pub tag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Is the app built in?
pub fn has_app() -> bool {
    HAS_APP
}

fn find(path: &str) -> Option<&'static Asset> {
    ASSETS
        .binary_search_by(|asset| asset.path.cmp(path))
        .ok()
        .map(|at| &ASSETS[at])
}

/// Does the app show something at this address? Everything else is not found.
fn is_page(path: &str) -> bool {
    path.is_empty()
        || path
            .strip_prefix("r/")
            .is_some_and(|room| !room.is_empty() && !room.contains('/'))
}

/// Everything here is only read.
pub async fn wrong_method() -> Response {
    let allow = [(header::ALLOW, "GET, HEAD")];
    let words = "This address can only be read: GET and HEAD.\n";
    (StatusCode::METHOD_NOT_ALLOWED, allow, words).into_response()
}

/// The file, or the app's page for the addresses that it draws itself.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return wrong_method().await;
    }
    let path = uri.path().trim_start_matches('/');
    let asset = if is_page(path) {
        find("index.html")
    } else {
        find(path)
    };
    let Some(asset) = asset else {
        return (StatusCode::NOT_FOUND, "There is nothing at this address.\n").into_response();
    };
    // Names of built files carry a hash of their content.
    let cache = if asset.path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let kind = mime_guess::from_path(asset.path)
        .first_or_octet_stream()
        .to_string();
    let kind = if kind.starts_with("text/") {
        format!("{kind}; charset=utf-8")
    } else {
        kind
    };
    let unchanged = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tag| tag.as_bytes() == asset.tag.as_bytes());
    let mut response = Response::new(if unchanged {
        Body::empty()
    } else {
        Body::from(asset.bytes)
    });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.tag));
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    response
}
