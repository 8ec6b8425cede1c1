//! The caller's trace, as W3C Trace Context writes it (<https://www.w3.org/TR/trace-context/>).

/// What `traceparent` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The caller's span.
    pub span: [u8; 8],
    /// Whether the caller follows this request.
    pub sampled: bool,
}

/// Length of version 00: `00-`, 32 digits, `-`, 16 digits, `-`, two digits.
const LENGTH: usize = 55;

impl Parent {
    /// Reads `traceparent`. `None` if it makes no sense: then the request has no parent.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Parent> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let [version] = bytes::<1>(&known[..2])?;
        // a later version may have more fields
        let extends = version != 0 && rest.first() == Some(&b'-');
        if version == 0xff || !(rest.is_empty() || extends) {
            return None;
        }
        if [known[2], known[35], known[52]] != [b'-'; 3] {
            return None;
        }
        let trace = bytes::<16>(&known[3..35]).filter(|id| *id != [0; 16])?;
        let span = bytes::<8>(&known[36..52]).filter(|id| *id != [0; 8])?;
        let [flags] = bytes::<1>(&known[53..])?;
        Some(Parent { trace, span, sampled: flags & 1 == 1 })
    }

    /// The lower half of the trace's identifier.
    pub(super) fn low(&self) -> u64 {
        self.trace[8..].iter().fold(0, |low, byte| (low << 8) | u64::from(*byte))
    }
}

/// `2 * N` lower-case digits.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, _) = digits.as_chunks::<2>();
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn read(text: &str) -> Option<Parent> {
        Parent::read(text.as_bytes())
    }

    #[test]
    fn a_parent_has_a_trace_a_span_and_a_flag() {
        let parent = read(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(u128::from_be_bytes(parent.trace), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(u64::from_be_bytes(parent.span), 0x00f0_67aa_0ba9_02b7);
        assert_eq!(parent.low(), 0xa3ce_929d_0e0e_4736);
        assert!(parent.sampled);
        assert!(!read(&format!("00-{TRACE}-{SPAN}-02")).unwrap().sampled);
    }

    #[test]
    fn a_later_version_may_have_more_fields() {
        assert!(read(&format!("01-{TRACE}-{SPAN}-01-more")).is_some());
        assert!(read(&format!("01-{TRACE}-{SPAN}-01")).is_some());
    }

    #[test]
    fn what_makes_no_sense_is_no_parent() {
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("01-{TRACE}-{SPAN}-01x"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0g"),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
