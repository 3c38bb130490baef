//! Cuts SQL text into statements and words, as PostgreSQL's own scanner does.
//!
//! Knows comments (nested ones too), quoted names, strings (plain, `E''`, `U&''`), dollar quotes, and function bodies
//! of the form `BEGIN ATOMIC … END`, inside which a semicolon ends no statement. It judges nothing: that is
//! [`super::lint`]'s.

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An unquoted name or keyword, in lower case.
    Word,
    /// A quoted name, without its quotes.
    Quoted,
    /// A string, without its quotes.
    Text,
    /// What stands between dollar quotes.
    Body,
    /// A number.
    Number,
    /// Any other character.
    Symbol,
}

/// One word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its text; see [`TokenKind`].
    pub text: String,
    /// The line it begins on, from 1.
    pub line: usize,
    /// How many parentheses are open around it.
    pub depth: usize,
}

impl Token {
    /// Whether it is this keyword or symbol (in lower case).
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Symbol) && self.text == text
    }

    /// Whether it can name something.
    pub fn is_name(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Quoted)
    }
}

/// A comment of ours: `-- utxoiq: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// What follows the colon.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
    /// How many statements stand before it in the file.
    pub before: usize,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its text, from its first word to before its semicolon.
    pub text: String,
    /// The line of its first word, from 1.
    pub line: usize,
    /// Its words.
    pub tokens: Vec<Token>,
}

/// A file's statements and directives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In order.
    pub statements: Vec<Statement>,
    /// In order.
    pub directives: Vec<Directive>,
}

/// Why a text could not be cut: a quote or comment that never ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// What was begun.
    pub what: &'static str,
    /// Where, from 1.
    pub line: usize,
}

/// Cuts a text into statements.
pub fn parse(text: &str) -> Result<Parsed, Unfinished> {
    let mut scanner = Scanner {
        text,
        at: 0,
        line: 1,
        depth: 0,
    };
    let mut parsed = Parsed::default();
    let mut tokens: Vec<Token> = Vec::new();
    let (mut start, mut end) = (0, 0);
    let mut atomic = 0_usize;
    while let Some(found) = scanner.next()? {
        let token = match found {
            Found::Comment { text, line } => {
                if let Some(directive) = text.trim_start_matches('-').trim().strip_prefix("utxoiq:")
                {
                    parsed.directives.push(Directive {
                        text: directive.trim().to_owned(),
                        line,
                        before: parsed.statements.len() + usize::from(!tokens.is_empty()),
                    });
                }
                continue;
            }
            Found::Token { token, from } => {
                if tokens.is_empty() {
                    start = from;
                }
                token
            }
        };
        if token.is(";") && token.depth == 0 && atomic == 0 {
            finish(&mut parsed, &mut tokens, &text[start..end.max(start)]);
            continue;
        }
        atomic = atomic_depth(atomic, &tokens, &token);
        end = scanner.at;
        tokens.push(token);
    }
    finish(&mut parsed, &mut tokens, &text[start..end.max(start)]);
    Ok(parsed)
}

fn finish(parsed: &mut Parsed, tokens: &mut Vec<Token>, text: &str) {
    if let Some(first) = tokens.first() {
        parsed.statements.push(Statement {
            text: text.to_owned(),
            line: first.line,
            tokens: std::mem::take(tokens),
        });
    }
}

/// How many blocks that want an `END` are open: 0 outside `BEGIN ATOMIC`.
fn atomic_depth(open: usize, before: &[Token], token: &Token) -> usize {
    let creates = before.first().is_some_and(|first| first.is("create"));
    if open == 0 {
        let begins =
            creates && token.is("atomic") && before.last().is_some_and(|word| word.is("begin"));
        return usize::from(begins);
    }
    if token.is("case") {
        open + 1
    } else if token.is("end") {
        open - 1
    } else {
        open
    }
}

enum Found<'a> {
    Comment { text: &'a str, line: usize },
    Token { token: Token, from: usize },
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves on by `bytes` and returns them.
    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        self.at += bytes;
        self.line += taken.matches('\n').count();
        taken
    }

    fn next(&mut self) -> Result<Option<Found<'a>>, Unfinished> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.take(blank);
        let (from, line, rest) = (self.at, self.line, self.rest());
        let Some(first) = rest.chars().next() else {
            return Ok(None);
        };
        if rest.starts_with("--") {
            let text = self.take(rest.find('\n').unwrap_or(rest.len()));
            return Ok(Some(Found::Comment { text, line }));
        }
        if rest.starts_with("/*") {
            let text = self.block_comment()?;
            return Ok(Some(Found::Comment { text, line }));
        }
        let (kind, text) = self.token(first)?;
        if text == ")" && kind == TokenKind::Symbol {
            self.depth = self.depth.saturating_sub(1);
        }
        let depth = self.depth;
        if text == "(" && kind == TokenKind::Symbol {
            self.depth += 1;
        }
        let token = Token {
            kind,
            text,
            line,
            depth,
        };
        Ok(Some(Found::Token { token, from }))
    }

    fn token(&mut self, first: char) -> Result<(TokenKind, String), Unfinished> {
        let rest = self.rest();
        let second = rest[first.len_utf8()..].chars().next();
        match first {
            '\'' => self
                .quoted('\'', false, "a string")
                .map(|text| (TokenKind::Text, text)),
            '"' => self
                .quoted('"', false, "a quoted name")
                .map(|text| (TokenKind::Quoted, text)),
            'e' | 'E' if second == Some('\'') => {
                self.take(1);
                self.quoted('\'', true, "a string")
                    .map(|text| (TokenKind::Text, text))
            }
            'b' | 'B' | 'x' | 'X' | 'n' | 'N' if second == Some('\'') => {
                self.take(1);
                self.quoted('\'', false, "a string")
                    .map(|text| (TokenKind::Text, text))
            }
            'u' | 'U' if rest[1..].starts_with("&'") || rest[1..].starts_with("&\"") => {
                self.take(2);
                let quote = if self.rest().starts_with('"') {
                    '"'
                } else {
                    '\''
                };
                let kind = if quote == '"' {
                    TokenKind::Quoted
                } else {
                    TokenKind::Text
                };
                self.quoted(quote, false, "a string")
                    .map(|text| (kind, text))
            }
            '$' => match dollar_tag(rest) {
                Some(tag) => self.body(tag).map(|text| (TokenKind::Body, text)),
                None => Ok((TokenKind::Symbol, self.take(1).to_owned())),
            },
            c if is_word_start(c) => {
                let bytes = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                Ok((TokenKind::Word, self.take(bytes).to_lowercase()))
            }
            c if c.is_ascii_digit() => {
                let bytes = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'))
                    .unwrap_or(rest.len());
                Ok((TokenKind::Number, self.take(bytes).to_owned()))
            }
            c => Ok((TokenKind::Symbol, self.take(c.len_utf8()).to_owned())),
        }
    }

    fn block_comment(&mut self) -> Result<&'a str, Unfinished> {
        let (rest, line) = (self.rest(), self.line);
        let mut open = 0_usize;
        let mut at = 0;
        loop {
            let Some(next) = rest[at..].find(['/', '*']) else {
                return Err(Unfinished {
                    what: "a comment",
                    line,
                });
            };
            at += next;
            if rest[at..].starts_with("/*") {
                open += 1;
                at += 2;
            } else if rest[at..].starts_with("*/") {
                open -= 1;
                at += 2;
            } else {
                at += 1;
            }
            if open == 0 {
                return Ok(self.take(at));
            }
        }
    }

    /// What stands between two quotes; a doubled quote, and where `escapes` a backslashed one, belongs to it.
    fn quoted(
        &mut self,
        quote: char,
        escapes: bool,
        what: &'static str,
    ) -> Result<String, Unfinished> {
        let line = self.line;
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = characters.next() {
            if c == '\\' && escapes {
                text.push(c);
                text.extend(characters.next().map(|(_, c)| c));
            } else if c != quote || characters.next_if(|(_, next)| *next == quote).is_some() {
                text.push(c);
            } else {
                self.take(at + 1);
                return Ok(text);
            }
        }
        Err(Unfinished { what, line })
    }

    fn body(&mut self, tag: &str) -> Result<String, Unfinished> {
        let (rest, line) = (self.rest(), self.line);
        let Some(end) = rest[tag.len()..].find(tag) else {
            return Err(Unfinished {
                what: "a dollar quote",
                line,
            });
        };
        self.take(end + 2 * tag.len());
        Ok(rest[tag.len()..tag.len() + end].to_owned())
    }
}

/// `$$` or `$tag$` at the beginning of `rest`; a parameter (`$1`) is none.
fn dollar_tag(rest: &str) -> Option<&str> {
    let end = 1 + rest[1..].find('$')?;
    let tag = &rest[1..end];
    let mut characters = tag.chars();
    let valid =
        characters.next().is_none_or(is_word_start) && characters.all(|c| is_word(c) && c != '$');
    valid.then(|| &rest[..=end])
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        let parsed = parse(sql).unwrap();
        parsed
            .statements
            .into_iter()
            .map(|statement| statement.text)
            .collect()
    }

    #[test]
    fn semicolons_in_quotes_comments_and_bodies_end_nothing() {
        let sql = "select ';' , \";\" , 'it''s;' , E'\\';' , $$ ; $$ , $a$ ; $$ ; $a$ -- ;\n /* ; /* ; */ ; */ , 1; select 2";
        assert_eq!(texts(sql).len(), 2, "{:?}", texts(sql));
        assert_eq!(texts(sql)[1], "select 2");
        assert_eq!(texts("  ;; -- nothing\n ; "), Vec::<String>::new());
        assert_eq!(texts("select U&'\\0061;' ; select $1;").len(), 2);
    }

    #[test]
    fn an_atomic_function_body_is_one_statement() {
        let sql = "create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3";
        assert_eq!(texts(sql).len(), 2);
        assert_eq!(texts("begin; select 1; end").len(), 3);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let parsed = parse("-- utxoiq: backward-compatible\n\nselect '\n',\n  b;\n-- utxoiq: allow x because y\nselect 2").unwrap();
        assert_eq!(parsed.statements[0].line, 3);
        assert_eq!(parsed.statements[0].tokens.last().unwrap().line, 5);
        assert_eq!(parsed.statements[1].line, 7);
        let directives: Vec<_> = parsed
            .directives
            .iter()
            .map(|d| (d.text.as_str(), d.line, d.before))
            .collect();
        assert_eq!(
            directives,
            [("backward-compatible", 1, 0), ("allow x because y", 6, 1)]
        );
    }

    #[test]
    fn words_are_lower_case_and_know_their_depth() {
        let parsed = parse("CREATE Table \"Öl\" (a Int, b text CHECK (b <> $$x$$))").unwrap();
        let tokens = &parsed.statements[0].tokens;
        assert!(tokens[0].is("create") && tokens[1].is("table"));
        assert_eq!(
            (tokens[2].kind, tokens[2].text.as_str(), tokens[2].depth),
            (TokenKind::Quoted, "Öl", 0)
        );
        let check = tokens.iter().position(|token| token.is("check")).unwrap();
        assert_eq!(tokens[check].depth, 1);
        assert_eq!(tokens[check + 2].depth, 2);
        assert_eq!(
            tokens
                .last()
                .map(|token| (token.text.as_str(), token.depth)),
            Some((")", 0))
        );
    }

    #[test]
    fn what_never_ends_is_named_with_its_line() {
        for (sql, what) in [
            ("\nselect '", "a string"),
            ("\n/* /* */", "a comment"),
            ("\n$a$ $b$", "a dollar quote"),
            ("\n\"a", "a quoted name"),
        ] {
            assert_eq!(parse(sql), Err(Unfinished { what, line: 2 }), "{sql}");
        }
    }
}
