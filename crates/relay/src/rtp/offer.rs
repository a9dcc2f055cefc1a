//! A browser's offer, read. Reading is the dear part of taking one (milliseconds), and needs nothing of the connection: it can
//! be done anywhere.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use str0m::change::SdpOffer;
use str0m::media::Mid;

/// Bytes of SDP in an offer. One with 64 pairs of tracks takes 150 kB.
const BYTES: usize = 256 << 10;
/// Tracks of a connection, both ways.
const TRACKS: usize = 160;
/// Lines of one track, or ahead of all. Browsers write 60 where codecs are chosen, as ours are.
const LINES: usize = 200;
/// Bytes of a line. The longest name every track or every stream: 3 kB of 130 tracks.
const LINE_BYTES: usize = 8_192;

/// Why an offer is refused.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// Above 256 KiB, 160 tracks, 200 lines a track, or 8 KiB a line.
    #[error("the offer is too large")]
    TooLarge,
    /// No SDP, or one that does not fit the session.
    #[error("the offer is not acceptable: {0}")]
    Unacceptable(String),
}

/// See the module.
pub struct Offer {
    pub(super) sdp: SdpOffer,
    /// Of its tracks, in order.
    pub(super) mids: Vec<Mid>,
    ufrag: String,
    hash: [u8; 32],
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut offer = f.debug_struct("Offer");
        offer.field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

impl Offer {
    /// Reads one. Candidates in it are ignored.
    pub fn read(text: &str) -> Result<Self, OfferError> {
        if text.len() > BYTES {
            return Err(OfferError::TooLarge);
        }
        let mut heard = String::with_capacity(text.len());
        let (mut tracks, mut lines) = (0, 0);
        let (mut mids, mut ufrag) = (Vec::new(), None);
        for line in text.lines() {
            if line.starts_with("m=") {
                (tracks, lines) = (tracks + 1, 0);
            }
            lines += 1;
            if tracks > TRACKS || lines > LINES || line.len() > LINE_BYTES {
                return Err(OfferError::TooLarge);
            }
            if let Some(mid) = line.strip_prefix("a=mid:") {
                mids.push(Mid::from(mid));
            } else if let Some(name) = line.strip_prefix("a=ice-ufrag:") {
                ufrag.get_or_insert(name.trim_end());
            } else if line.starts_with("a=candidate:") {
                continue;
            }
            heard.push_str(line);
            heard.push_str("\r\n");
        }
        let sdp = SdpOffer::from_sdp_string(&heard)
            .map_err(|error| OfferError::Unacceptable(error.to_string()))?;
        let hash = digest(&SHA256, text.as_bytes());
        Ok(Self {
            sdp,
            mids,
            ufrag: ufrag.unwrap_or_default().to_owned(),
            hash: hash.as_ref().try_into().unwrap_or_default(),
        })
    }

    /// The browser's ICE user name: another connection has another.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// What tells it from other offers.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_browser_writes_is_refused_before_it_is_parsed() {
        let track = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
        let large = [
            track.repeat(TRACKS + 1),
            format!("v=0\r\n{}", "a=x\r\n".repeat(LINES)),
            format!("{track}{}", "a=x\r\n".repeat(LINES)),
            format!("v=0\r\na={}\r\n", "x".repeat(LINE_BYTES)),
            " ".repeat(BYTES + 1),
        ];
        for offer in large {
            assert!(matches!(Offer::read(&offer), Err(OfferError::TooLarge)));
        }
        for offer in ["", "v=0", "hello"] {
            let read = Offer::read(offer);
            assert!(matches!(read, Err(OfferError::Unacceptable(_))));
        }
    }
}
