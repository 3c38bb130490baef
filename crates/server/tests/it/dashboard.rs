//! The dashboard as a browser meets it, without the browser: who gets in, what is shown, what follows.

mod follow;
mod login;
mod pages;
mod shown;

use reqwest::{Client, RequestBuilder, header, redirect::Policy};
use utxoiq_store::token::Scope;

use crate::{
    live::{Live, answer},
    support::Answer,
    tokens::token_named,
};

/// A browser that follows nothing by itself.
pub struct Browser {
    client: Client,
    /// The value of its header `Cookie`.
    pub cookie: Option<String>,
}

impl Browser {
    pub fn new() -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self {
            client,
            cookie: None,
        }
    }

    /// One that is logged in with a token of these scopes.
    pub async fn of(live: &Live, name: &str, scopes: &[Scope]) -> Self {
        Self::with(&token_named(&live.db, name, scopes).await)
    }

    /// One that holds the cookie of a token.
    pub fn with(token: &str) -> Self {
        let mut browser = Self::new();
        browser.cookie = Some(format!("utxoiq_store={token}"));
        browser
    }

    /// A request as its pages make it.
    pub fn ask(&self, live: &Live, method: &str, target: &str) -> RequestBuilder {
        let method = method.to_uppercase().parse().unwrap();
        let url = format!("http://{}{target}", live.address);
        let mut request = self.client.request(method, url);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        request.header("sec-fetch-site", "same-origin")
    }

    pub async fn get(&self, live: &Live, target: &str) -> Answer {
        answer(self.ask(live, "get", target)).await
    }

    pub async fn post(&self, live: &Live, target: &str, form: &str) -> Answer {
        let request = self
            .ask(live, "post", target)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.to_owned());
        answer(request).await
    }
}

impl Answer {
    /// A page of this status; gives its HTML.
    pub fn page(&self, status: u16) -> &str {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        let kind = self.header("content-type");
        assert_eq!(kind, Some("text/html; charset=utf-8"), "{self:?}");
        let policy = self.header("content-security-policy").unwrap();
        assert!(
            policy.contains("script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
        for forbidden in [
            " style=\"",
            "<style",
            " onclick=",
            "javascript:",
            "http://",
            "https://",
        ] {
            let text = self
                .text
                .replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            assert!(!text.contains(forbidden), "{forbidden} in {text}");
        }
        assert!(self.text.contains(" · utxoIQ Store</title>"), "{self:?}");
        self.assert_common_headers();
        &self.text
    }

    /// Where it leads.
    pub fn leads_to(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.header("location").unwrap()
    }
}
