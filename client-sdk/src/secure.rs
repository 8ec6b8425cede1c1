//! How a client proves who it is, and who the server is.

use std::fmt;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

#[cfg(feature = "tls")]
use crate::tls::Tls;

/// A channel that says who asks.
pub(crate) type Authed = InterceptedService<Channel, Token>;

/// A connection, encrypted or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// Adds a bearer token to every call, if there is one (RFC 6750).
#[derive(Clone, Default)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Token(..)" } else { "none" })
    }
}

impl Token {
    /// `None` if `token` has bytes that no header can have.
    pub(crate) fn bearer(token: &str) -> Option<Token> {
        let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| plain)?;
        value.set_sensitive(true);
        Some(Token(MetadataValue::try_from(value.as_bytes()).ok().map(sensitive)))
    }
}

fn sensitive(mut value: MetadataValue<Ascii>) -> MetadataValue<Ascii> {
    value.set_sensitive(true);
    value
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// How connections are made and who uses them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    pub(crate) token: Token,
}

impl Security {
    /// `http` or `https`.
    pub(crate) const fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "https";
        }
        "http"
    }

    /// A connection to `address` (`host:port`) of a server that is called `authority` (`host:port`).
    pub(crate) async fn connect(&self, address: &str, authority: &str) -> std::io::Result<Box<dyn Wire>> {
        let io = TcpStream::connect(address).await?;
        io.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Box::new(tls.connect(authority, io).await?));
        }
        let _named = authority;
        Ok(Box::new(io))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = Token::bearer("secret.word-1").unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
        let sent = token.clone().call(Request::new(())).unwrap();
        assert_eq!(sent.metadata().get("authorization").unwrap(), "Bearer secret.word-1");
        assert_eq!(format!("{:?}", sent.metadata().get("authorization").unwrap()), "Sensitive");
        for wrong in ["", "two words", "line\n", "\u{e4}"] {
            assert!(Token::bearer(wrong).is_none(), "{wrong:?}");
        }
    }
}
