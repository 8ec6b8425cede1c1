//! Which `:authority` values h2 takes, and how any other becomes one of them.
//!
//! h2 0.4.20 hands the value to `http::uri::Authority` and resets the stream (PROTOCOL_ERROR) if that
//! refuses it; a value that is not UTF-8 even ends the connection. `is_legal` restates the rule of http
//! 1.5 without its copy of the value; a property test holds the two together.

/// Stands for every byte that had to go.
const FILL: u8 = b'-';

/// Stands for an empty value, which has no byte to replace.
pub(super) const PLACEHOLDER: &[u8] = &[FILL];

const MOST_COLONS: u32 = 8;

pub(super) fn is_legal(value: &[u8]) -> bool {
    let mut seen = Seen::default();
    !value.is_empty()
        && !value.ends_with(b"@")
        && value.iter().all(|byte| seen.allows(*byte))
        && seen.open == seen.closed
        && seen.colons <= 1
        && !seen.percent
}

/// Makes the value legal, one byte for one byte: the length is part of what HPACK keeps in its table.
pub(super) fn mend(value: &mut [u8]) {
    for byte in value.iter_mut() {
        if !is_name_byte(*byte) && !matches!(byte, b':' | b'[' | b']' | b'@') {
            *byte = FILL;
        }
    }
    if !is_legal(value) {
        flatten(value);
    }
}

/// Keeps the last colon (a port, most likely) and no other mark, which is legal whatever it was.
fn flatten(value: &mut [u8]) {
    let port = value.iter().rposition(|byte| *byte == b':');
    for (at, byte) in value.iter_mut().enumerate() {
        if b"[]@".contains(byte) || (*byte == b':' && Some(at) != port) {
            *byte = FILL;
        }
    }
}

/// What http's parser remembers from left to right.
#[derive(Default)]
struct Seen {
    colons: u32,
    open: bool,
    closed: bool,
    percent: bool,
}

impl Seen {
    #[inline]
    fn allows(&mut self, byte: u8) -> bool {
        is_name_byte(byte) || self.allows_mark(byte)
    }

    fn allows_mark(&mut self, byte: u8) -> bool {
        match byte {
            b':' => {
                self.colons += 1;
                return self.colons <= MOST_COLONS;
            }
            b'%' => self.percent = true,
            b'[' if self.percent || self.open => return false,
            b'[' => self.open = true,
            b']' if !self.open || self.closed => return false,
            b']' => {
                self.closed = true;
                self.forget();
            }
            b'@' => self.forget(),
            _ => return false,
        }
        true
    }

    /// What came before was user information or an IPv6 address, which may have colons and percents.
    fn forget(&mut self) {
        self.colons = 0;
        self.percent = false;
    }
}

/// Legal anywhere, any number of times.
#[inline]
fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"-._~!$&'()*+,;=";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Authority;
    use proptest::prelude::*;

    fn mended(value: &[u8]) -> String {
        let mut value = value.to_vec();
        mend(&mut value);
        String::from_utf8(value).unwrap()
    }

    #[test]
    fn names_envoy_sends() {
        for (name, expected) in [
            (
                "outbound|8081||ratelimit.default.svc.cluster.local",
                "outbound-8081--ratelimit.default.svc.cluster.local",
            ),
            ("unix:/var/run/rl.sock", "unix:-var-run-rl.sock"),
            ("rate limit/{blue}", "rate-limit--blue-"),
            ("a:b:8081", "a-b:8081"),
            ("user@", "user-"),
            ("[::1", "--:1"),
            ("h%20:1", "h-20:1"),
            ("[::1|]:80", "[::1-]:80"),
            ("\u{e9}", "--"),
        ] {
            assert!(!is_legal(name.as_bytes()), "{name}");
            assert_eq!(mended(name.as_bytes()), expected);
        }
    }

    #[test]
    fn legal_names_stay() {
        for name in [
            "localhost",
            "rl.example:8081",
            "[::1]:80",
            "u%20:p@h:1",
            "a_b~c",
            ":80",
            "h:port",
            "[fe80::1%25eth0]",
        ] {
            assert!(is_legal(name.as_bytes()), "{name}");
        }
    }

    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(
                prop_oneof![
                    Just(b'a'),
                    Just(b':'),
                    Just(b'@'),
                    Just(b'['),
                    Just(b']'),
                    Just(b'%'),
                    Just(b'/')
                ],
                0..14
            ),
            proptest::collection::vec(any::<u8>(), 0..24),
            proptest::collection::vec(0x20u8..0x7f, 0..24),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn legal_is_what_http_takes(value in tricky()) {
            prop_assert_eq!(is_legal(&value), Authority::try_from(&value[..]).is_ok());
        }

        #[test]
        fn a_mended_value_is_legal_and_as_long(value in tricky().prop_filter("empty", |value| !value.is_empty())) {
            prop_assert!(Authority::try_from(mended(&value)).is_ok());
            prop_assert_eq!(mended(&value).len(), value.len());
        }
    }
}
