//! Control messages: what two neighbours tell each other beside frames. JSON text, one object per message, discriminated by
//! `t`; `docs/ref/links.md` describes them. [`parse`] is the only door for foreign text: it never panics, copies only what
//! it knows and bounds everything that it copies.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::command::{Layers, Stream};

/// Longest message read, in UTF-16 units as browsers count.
const MAX_CONTROL: usize = 4096;
/// Numbers in one `need` or `miss`: more missing frames than this are a case for a key frame.
pub(crate) const MAX_NUMBERS: usize = 64;
/// Browsers count in doubles.
const MAX_SAFE: u64 = (1 << 53) - 1;
const MAX_STREAM: u64 = 0xf_ffff;

/// The newest frame of a layer that a node has, with no hole before it that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Have {
    pub layer: u8,
    pub generation: u16,
    pub number: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Control {
    /// Alive. `n` counts; `f` frames were sent on this link so far; the last `n` heard, and how long ago in ms.
    Beat {
        n: u32,
        f: u64,
        echo: Option<(u32, f64)>,
    },
    /// Child to parent: start now; I have these already.
    Take { s: Stream, have: Vec<Have> },
    /// Child to who stands by: I am served elsewhere, stop.
    Drop { s: Stream },
    /// Child to parent: a key frame of this layer, please.
    Key { s: Stream, l: u8 },
    /// Child to parent: these frames did not come.
    Need { s: Stream, l: u8, n: Vec<u32> },
    /// Parent to child: these will not come.
    Miss { s: Stream, l: u8, n: Vec<u32> },
    /// Parent to child: the newest frame of a layer that has paused, lest its loss go unseen.
    Tip { s: Stream, l: u8, g: u16, n: u32 },
    /// Parent to child: the layers that you get at present.
    Layers { s: Stream, l: Layers },
}

/// Why a text is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// None of ours.
    Malformed,
    /// Well-formed, of a kind that this version does not know.
    Unknown,
}

impl Control {
    /// The message as text.
    pub(crate) fn encode(&self) -> String {
        match self {
            Control::Beat { n, f, echo: None } => format!(r#"{{"t":"hb","n":{n},"f":{f}}}"#),
            Control::Beat {
                n,
                f,
                echo: Some((e, d)),
            } => {
                format!(r#"{{"t":"hb","n":{n},"f":{f},"e":{e},"d":{d:.2}}}"#)
            }
            Control::Take { s, have } => {
                let mut text = format!(r#"{{"t":"take","s":{},"have":["#, s.0);
                for (i, h) in have.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    let _ = write!(
                        text,
                        r#"{comma}{{"layer":{},"generation":{},"number":{}}}"#,
                        h.layer, h.generation, h.number
                    );
                }
                text.push_str("]}");
                text
            }
            Control::Drop { s } => format!(r#"{{"t":"drop","s":{}}}"#, s.0),
            Control::Key { s, l } => format!(r#"{{"t":"key","s":{},"l":{l}}}"#, s.0),
            Control::Need { s, l, n } => {
                format!(r#"{{"t":"need","s":{},"l":{l},"n":[{}]}}"#, s.0, list(n))
            }
            Control::Miss { s, l, n } => {
                format!(r#"{{"t":"miss","s":{},"l":{l},"n":[{}]}}"#, s.0, list(n))
            }
            Control::Tip { s, l, g, n } => {
                format!(r#"{{"t":"tip","s":{},"l":{l},"g":{g},"n":{n}}}"#, s.0)
            }
            Control::Layers { s, l } => {
                let layers: Vec<u32> = l.iter().map(u32::from).collect();
                format!(r#"{{"t":"layers","s":{},"l":[{}]}}"#, s.0, list(&layers))
            }
        }
    }
}

fn list(numbers: &[u32]) -> String {
    let mut text = String::with_capacity(numbers.len() * 8);
    for (i, n) in numbers.iter().enumerate() {
        let _ = write!(text, "{}{n}", if i > 0 { "," } else { "" });
    }
    text
}

/// Reads a message.
pub(crate) fn parse(text: &str) -> Result<Control, Refused> {
    if text.len() > MAX_CONTROL && text.encode_utf16().count() > MAX_CONTROL {
        return Err(Refused::Malformed);
    }
    let Ok(Value::Object(m)) = serde_json::from_str(text) else {
        return Err(Refused::Malformed);
    };
    let Some(Value::String(t)) = m.get("t") else {
        return Err(Refused::Malformed);
    };
    match t.as_str() {
        "hb" => beat(&m),
        "take" => take(&m),
        "drop" => (|| Some(Control::Drop { s: stream(&m)? }))(),
        "key" => (|| {
            Some(Control::Key {
                s: stream(&m)?,
                l: layer(m.get("l"))?,
            })
        })(),
        "need" => (|| {
            Some(Control::Need {
                s: stream(&m)?,
                l: layer(m.get("l"))?,
                n: numbers(&m)?,
            })
        })(),
        "miss" => (|| {
            Some(Control::Miss {
                s: stream(&m)?,
                l: layer(m.get("l"))?,
                n: numbers(&m)?,
            })
        })(),
        "tip" => (|| {
            Some(Control::Tip {
                s: stream(&m)?,
                l: layer(m.get("l"))?,
                g: small(m.get("g"))?,
                n: number(m.get("n"))?,
            })
        })(),
        "layers" => layers(&m),
        _ => return Err(Refused::Unknown),
    }
    .ok_or(Refused::Malformed)
}

fn beat(m: &Map<String, Value>) -> Option<Control> {
    let n = number(m.get("n"))?;
    let f = int(m.get("f"), MAX_SAFE)?;
    let echo = match (m.get("e"), m.get("d")) {
        (None, None) => None,
        (e, d) => {
            let d = d?.as_f64().filter(|d| (0.0..=60_000.0).contains(d))?;
            Some((number(e)?, d))
        }
    };
    Some(Control::Beat { n, f, echo })
}

fn take(m: &Map<String, Value>) -> Option<Control> {
    let entries = m
        .get("have")?
        .as_array()
        .filter(|have| have.len() <= Layers::MAX.into())?;
    let have = entries.iter().map(|entry| {
        let entry = entry.as_object()?;
        Some(Have {
            layer: layer(entry.get("layer"))?,
            generation: small(entry.get("generation"))?,
            number: number(entry.get("number"))?,
        })
    });
    Some(Control::Take {
        s: stream(m)?,
        have: have.collect::<Option<_>>()?,
    })
}

fn layers(m: &Map<String, Value>) -> Option<Control> {
    let entries = m
        .get("l")?
        .as_array()
        .filter(|l| l.len() <= Layers::MAX.into())?;
    let mut l = Layers::NONE;
    for entry in entries {
        l = l.with(layer(Some(entry))?);
    }
    Some(Control::Layers { s: stream(m)?, l })
}

fn numbers(m: &Map<String, Value>) -> Option<Vec<u32>> {
    let entries = m.get("n")?.as_array()?;
    if !(1..=MAX_NUMBERS).contains(&entries.len()) {
        return None;
    }
    entries.iter().map(|n| number(Some(n))).collect()
}

fn stream(m: &Map<String, Value>) -> Option<Stream> {
    Some(Stream(int(m.get("s"), MAX_STREAM)? as u32))
}

fn layer(value: Option<&Value>) -> Option<u8> {
    Some(int(value, u64::from(Layers::MAX) - 1)? as u8)
}

fn small(value: Option<&Value>) -> Option<u16> {
    Some(int(value, 0xffff)? as u16)
}

fn number(value: Option<&Value>) -> Option<u32> {
    Some(int(value, 0xffff_ffff)? as u32)
}

/// A whole number 0..=`max`, written in any way that JSON has: 1, 1.0, 1e0 are the same to a browser.
fn int(value: Option<&Value>, max: u64) -> Option<u64> {
    let value = value?;
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number >= 0.0 && number <= MAX_SAFE as f64 && number.fract() == 0.0)
            .then_some(number as u64)
    })?;
    (whole <= max).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let s = Stream::new(0xffff, 15);
        let n: Vec<u32> = (0..64).map(|i| u32::MAX - i).collect();
        for message in [
            Control::Beat {
                n: 1,
                f: 2,
                echo: None,
            },
            Control::Beat {
                n: 42,
                f: MAX_SAFE,
                echo: Some((40, 12.5)),
            },
            Control::Take { s, have: vec![] },
            Control::Take {
                s,
                have: (0..4)
                    .map(|layer| Have {
                        layer,
                        generation: 3,
                        number: 417,
                    })
                    .collect(),
            },
            Control::Drop { s },
            Control::Key { s, l: 3 },
            Control::Need {
                s,
                l: 0,
                n: n.clone(),
            },
            Control::Miss { s, l: 1, n },
            Control::Tip {
                s,
                l: 2,
                g: 0xffff,
                n: 7,
            },
            Control::Layers {
                s,
                l: Layers(0b1011),
            },
            Control::Layers { s, l: Layers::NONE },
        ] {
            let text = message.encode();
            assert!(text.len() < 1200, "{text}");
            assert_eq!(parse(&text), Ok(message));
        }
    }

    #[test]
    fn a_message_reads_as_the_reference_writes_it() {
        assert_eq!(
            parse(r#"{"t":"take","s":16,"have":[{"layer":0,"generation":3,"number":417}]}"#),
            Ok(Control::Take {
                s: Stream::new(1, 0),
                have: vec![Have {
                    layer: 0,
                    generation: 3,
                    number: 417
                }],
            })
        );
        assert_eq!(
            parse(r#"{"t":"need","s":16,"l":0.0,"n":[418,4.2e2],"more":{"x":[]}}"#),
            Ok(Control::Need {
                s: Stream(16),
                l: 0,
                n: vec![418, 420]
            })
        );
    }

    #[test]
    fn what_breaks_a_bound_is_malformed_and_another_kind_is_unknown() {
        let many = format!(r#"{{"t":"need","s":1,"l":0,"n":[{}]}}"#, list(&[1; 65]));
        let long = format!(r#"{{"t":"key","s":1,"l":0,"x":"{}"}}"#, "x".repeat(4096));
        let deep = "[".repeat(4000);
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"t":1}"#,
            r#"{"t":"key","s":1048576,"l":0}"#,
            r#"{"t":"key","s":1,"l":4}"#,
            r#"{"t":"key","s":-1,"l":0}"#,
            r#"{"t":"key","s":0.5,"l":0}"#,
            r#"{"t":"need","s":1,"l":0,"n":[]}"#,
            r#"{"t":"hb","n":1,"f":1,"e":1}"#,
            r#"{"t":"hb","n":1,"f":1,"e":1,"d":60001}"#,
            r#"{"t":"hb","n":1,"f":1,"d":1}"#,
            r#"{"t":"hb","n":4294967296,"f":1}"#,
            r#"{"t":"take","s":1}"#,
            r#"{"t":"take","s":1,"have":[{},{},{},{},{}]}"#,
            r#"{"t":"tip","s":1,"l":0,"g":65536,"n":1}"#,
            r#"{"t":"layers","s":1,"l":[0,0,0,0,0]}"#,
            &many,
            &long,
            &deep,
        ] {
            assert_eq!(parse(text), Err(Refused::Malformed), "{text}");
        }
        assert_eq!(parse(r#"{"t":"later","s":1}"#), Err(Refused::Unknown));
    }
}
