//! Patterns for the names of certificates and of domains.

/// A name of a certificate: exact, `*.example` for every DNS name below it, or `spiffe://host/path/*` for every URI
/// below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamePattern(Form);

/// The name of a domain: exact, or with a `*` at its end for any rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainPattern(Form);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Form {
    Exact(Box<str>),
    EndsWith(Box<str>),
    BeginsWith(Box<str>),
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is empty, or has a `*` elsewhere than in `*.` at the beginning or `/*` at the end of a URI.
    pub fn parse(text: &str) -> Result<NamePattern, &'static str> {
        let form = if let Some(rest) = text.strip_prefix('*').filter(|rest| rest.starts_with('.')) {
            Form::EndsWith(rest.into())
        } else if let Some(rest) =
            text.strip_suffix('*').filter(|rest| rest.contains("://") && rest.ends_with('/'))
        {
            Form::BeginsWith(rest.into())
        } else {
            Form::Exact(text.into())
        };
        let (Form::Exact(rest) | Form::EndsWith(rest) | Form::BeginsWith(rest)) = &form;
        // of a pattern more than its dot has to be left
        let least = if matches!(form, Form::Exact(_)) { 1 } else { 2 };
        if rest.len() < least || rest.contains('*') {
            return Err("a name: exact, *.example, or spiffe://host/path/*");
        }
        Ok(NamePattern(form))
    }

    /// The name itself, if it is one and not a pattern.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        match &self.0 {
            Form::Exact(name) => Some(name),
            Form::EndsWith(_) | Form::BeginsWith(_) => None,
        }
    }

    /// Whether `name` is meant. Case makes no difference to DNS names, and does to URIs.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.0 {
            Form::Exact(text) if text.contains("://") => **text == *name,
            Form::Exact(text) => text.eq_ignore_ascii_case(name),
            Form::BeginsWith(text) => name.len() > text.len() && name.starts_with(&**text),
            Form::EndsWith(text) => {
                let end = name.len().checked_sub(text.len()).filter(|start| *start > 0);
                let end = end.and_then(|start| name.get(start..));
                end.is_some_and(|end| end.eq_ignore_ascii_case(text)) && !name.contains("://")
            }
        }
    }
}

impl DomainPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is empty, or has a `*` elsewhere than at the end.
    pub fn parse(text: &str) -> Result<DomainPattern, &'static str> {
        let form = match text.strip_suffix('*') {
            Some(rest) => Form::BeginsWith(rest.into()),
            None => Form::Exact(text.into()),
        };
        let (Form::Exact(rest) | Form::EndsWith(rest) | Form::BeginsWith(rest)) = &form;
        if text.is_empty() || rest.contains('*') {
            return Err("a domain: exact, or with one * at its end");
        }
        Ok(DomainPattern(form))
    }

    /// Whether `domain` is meant.
    #[must_use]
    pub fn matches(&self, domain: &str) -> bool {
        match &self.0 {
            Form::Exact(text) => **text == *domain,
            Form::BeginsWith(text) => domain.starts_with(&**text),
            Form::EndsWith(text) => domain.ends_with(&**text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_below_something() {
        let matches = |pattern: &str, name: &str| NamePattern::parse(pattern).unwrap().matches(name);
        assert!(matches("envoy.example", "Envoy.example") && !matches("envoy.example", "xenvoy.example"));
        assert!(matches("*.example", "a.example") && matches("*.example", "a.b.EXAMPLE"));
        assert!(!matches("*.example", "example") && !matches("*.example", ".example"));
        assert!(!matches("*.example", "spiffe://evil/a.example"), "a URI is no DNS name");
        assert!(
            matches("spiffe://x/shop", "spiffe://x/shop") && !matches("spiffe://x/shop", "spiffe://x/Shop")
        );
        assert!(
            matches("spiffe://x/ns/*", "spiffe://x/ns/a/b") && !matches("spiffe://x/ns/*", "spiffe://x/ns/")
        );
        for wrong in ["", "*", "*.", "a*", "a.*.b", "*.*.b", "spiffe://x*", "**.a"] {
            assert!(NamePattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn domains_are_exact_or_begin_alike() {
        let matches = |pattern: &str, name: &str| DomainPattern::parse(pattern).unwrap().matches(name);
        assert!(matches("shop", "shop") && !matches("shop", "shop2") && !matches("shop", "Shop"));
        assert!(matches("shop*", "shop") && matches("shop*", "shop2") && !matches("shop*", "sho"));
        assert!(matches("*", "") && matches("*", "anything"));
        for wrong in ["", "*a", "a*b", "**"] {
            assert!(DomainPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
