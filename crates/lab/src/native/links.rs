//! A native peer's links: its own QUIC port, whom it expects there, whom it dials.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grove_relay::quic::{Arriving, End, Endpoint, Socket};
use grove_relay::{Attached, Handle, Token};
use grove_server::relay::close::Close;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

/// First line of a native peer's offer.
const OFFER: &str = "grove-quic 1";
/// Pauses before each further attempt to dial.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// Where somebody listens, and what opens a link there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// UDP.
    pub address: SocketAddr,
    /// SHA-256 of the certificate that is shown there.
    pub certificate_sha256: [u8; 32],
    /// For this link only.
    pub token: Token,
}

impl Offer {
    /// As it stands in a description, `docs/ref/links.md`.
    pub fn encode(&self) -> String {
        format!(
            "{OFFER}\naddress {}\ncertificate {}\ntoken {}\n",
            self.address,
            URL_SAFE_NO_PAD.encode(self.certificate_sha256),
            URL_SAFE_NO_PAD.encode(self.token.0)
        )
    }

    /// `None`: it is none.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != OFFER {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (address, certificate, token) =
            (value("address")?, value("certificate")?, value("token")?);
        let offer = Self {
            address: address.parse().ok()?,
            certificate_sha256: bytes(certificate)?,
            token: Token(bytes(token)?),
        };
        lines.next().is_none().then_some(offer)
    }
}

/// So many bytes, base64url.
pub fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Takes links for whomever `core` expects, until the endpoint is closed.
pub async fn listen(endpoint: Endpoint, core: Handle) {
    while let Some(arriving) = endpoint.accept().await {
        tokio::spawn(take(arriving, core.clone()));
    }
}

async fn take(arriving: Arriving, core: Handle) {
    let no_hello = Close::NoHello;
    let Ok(opening) = arriving.hello(no_hello.code(), no_hello.reason()).await else {
        return;
    };
    match core.attach(opening.token()).await {
        Ok(attached) => {
            if let Some(socket) = opening.welcome(core.instance()).await {
                carry(socket, attached).await;
            }
        }
        Err(error) => {
            let close = Close::from(error);
            opening.refuse(close.code(), close.reason());
        }
    }
}

/// Dials and carries a link; `own` is what the own core expects it under. Whoever cannot be reached is reported lost by
/// the core.
pub fn dial(endpoint: Endpoint, core: Handle, offer: Offer, own: Token) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut pauses = AGAIN.iter();
        let socket = loop {
            let Offer {
                address,
                certificate_sha256,
                token,
            } = offer;
            if let Ok((socket, _)) = endpoint.dial(address, certificate_sha256, token).await {
                break socket;
            }
            let Some(&pause) = pauses.next() else { return };
            tokio::time::sleep(pause).await;
        };
        if let Ok(attached) = core.attach(own).await {
            carry(socket, attached).await;
        }
    })
}

async fn carry(mut socket: Socket, attached: Attached) {
    let close = match socket.run(attached).await {
        End::Gone => return,
        End::Closed(close) => close.into(),
        End::TooLarge => Close::TooLarge,
        End::Malformed => Close::Malformed,
    };
    socket.close(close.code(), close.reason());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_comes_back_and_nothing_else_is_one() {
        let offer = Offer {
            address: "192.0.2.7:50123".parse().expect("it is one"),
            certificate_sha256: [1; 32],
            token: Token([2; 16]),
        };
        let text = offer.encode();
        assert_eq!(Offer::decode(&text), Some(offer));
        assert_eq!(Offer::decode(&text[1..]), None);
        assert_eq!(Offer::decode(text.trim_end()), None);
        assert_eq!(Offer::decode(&format!("{text}more\n")), None);
        assert_eq!(Offer::decode("v=0\r\n"), None);
        let long = text.replace("token ", "token AAAA");
        assert_eq!(Offer::decode(&long), None);
    }
}
