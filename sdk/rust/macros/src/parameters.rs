//! `#[derive(Parameters)]`: a struct of what a program can be given, and what is known of it while the program is compiled.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Expr, Field, Fields, Lit, LitStr, Result, Type, UnOp};

/// What stands in `#[parameter(...)]`.
#[derive(Default)]
struct Said {
    short: Option<char>,
    default: Option<Expr>,
    choices: Vec<LitStr>,
    min: Option<i64>,
    max: Option<u64>,
    is_file: bool,
    is_positional: bool,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "expected a struct: each of its fields is a parameter"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(
            input,
            "expected named fields: their names are those of the parameters",
        ));
    };
    let mut declared = Vec::new();
    let mut taken = Vec::new();
    for (index, field) in fields.named.iter().enumerate() {
        declared.push(parameter(field)?);
        let name = &field.ident;
        taken.push(quote! { #name: ::inferlet::manifest::take(&values, #index)? });
    }
    let name = &input.ident;
    Ok(quote! {
        impl ::inferlet::Parameters for #name {
            const DECLARED: &'static [::inferlet::manifest::Parameter] = &[#(#declared),*];

            fn from_values(values: ::inferlet::manifest::Values<'_>) -> ::inferlet::Result<Self> {
                Ok(Self { #(#taken),* })
            }
        }
    })
}

/// The declaration of a field, as an expression.
fn parameter(field: &Field) -> Result<TokenStream> {
    let name = field.ident.as_ref().expect("it is named").to_string();
    let name = name.trim_start_matches("r#").replace('_', "-");
    let about = about(field)?;
    let said = said(field)?;
    let (inner, is_optional, is_list) = shape(&field.ty);
    let kind = kind(inner, &said)?;
    let is_boolean = matches!(kind, Kind::Boolean);
    if is_boolean && (is_optional || is_list || said.is_positional || said.default.is_some()) {
        return Err(Error::new_spanned(
            field,
            "a boolean is false where it is not given: expected a plain `bool`",
        ));
    }
    if is_optional && said.default.is_some() {
        return Err(Error::new_spanned(
            field,
            "an `Option` is none where it is not given: it has no default",
        ));
    }
    if name == "help" || said.short == Some('h') {
        return Err(Error::new_spanned(field, "`--help` and `-h` show what the program takes"));
    }
    let default = match &said.default {
        Some(default) => {
            let text = default_text(default, &kind, is_list)?;
            quote! { ::core::option::Option::Some(::std::borrow::Cow::Borrowed(#text)) }
        }
        None => quote! { ::core::option::Option::None },
    };
    let short = match said.short {
        Some(short) => quote! { ::core::option::Option::Some(#short) },
        None => quote! { ::core::option::Option::None },
    };
    let is_required = !is_optional && !is_boolean && said.default.is_none();
    let is_positional = said.is_positional;
    let kind = kind.tokens();
    Ok(quote! {
        ::inferlet::manifest::Parameter {
            name: ::std::borrow::Cow::Borrowed(#name),
            short: #short,
            about: ::std::borrow::Cow::Borrowed(#about),
            kind: #kind,
            default: #default,
            required: #is_required,
            positional: #is_positional,
            list: #is_list,
        }
    })
}

/// The documentation of a field, in one line, without the point at its end.
fn about(field: &Field) -> Result<String> {
    let mut lines = Vec::new();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Str(text) = &literal.lit
        {
            lines.push(text.value().trim().to_string());
        }
    }
    let about = lines.join(" ").trim().trim_end_matches('.').to_string();
    match about.is_empty() {
        true => Err(Error::new_spanned(field, "expected a line of documentation: `--help` shows it")),
        false => Ok(about),
    }
}

fn said(field: &Field) -> Result<Said> {
    let mut said = Said::default();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("parameter")) {
        attribute.parse_nested_meta(|meta| {
            let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match word.as_str() {
                "short" => {
                    let short: syn::LitChar = meta.value()?.parse()?;
                    if !short.value().is_ascii_alphabetic() {
                        return Err(Error::new_spanned(short, "expected a letter"));
                    }
                    said.short = Some(short.value());
                }
                "default" => said.default = Some(meta.value()?.parse()?),
                "choices" => {
                    let choices: syn::ExprArray = meta.value()?.parse()?;
                    for choice in &choices.elems {
                        match choice {
                            Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => {
                                said.choices.push(text.clone())
                            }
                            other => return Err(Error::new_spanned(other, "expected a text")),
                        }
                    }
                }
                "min" => said.min = Some(whole(&meta.value()?.parse()?)?),
                "max" => said.max = Some(whole(&meta.value()?.parse()?)?),
                "file" => said.is_file = true,
                "positional" => said.is_positional = true,
                _ => {
                    return Err(meta.error(
                        "expected `short`, `default`, `choices`, `min`, `max`, `file` or `positional`",
                    ));
                }
            }
            Ok(())
        })?;
    }
    Ok(said)
}

/// A whole number that is written out.
fn whole<T: TryFrom<i128>>(number: &Expr) -> Result<T> {
    let wrong = || Error::new_spanned(number, "expected a whole number");
    let value = match number {
        Expr::Lit(literal) => magnitude(&literal.lit).ok_or_else(wrong)?,
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => match &*unary.expr {
            Expr::Lit(literal) => -magnitude(&literal.lit).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    T::try_from(value).map_err(|_| wrong())
}

fn magnitude(literal: &Lit) -> Option<i128> {
    match literal {
        Lit::Int(number) => number.base10_parse().ok(),
        _ => None,
    }
}

/// The type of one value, and whether it is in an `Option` or a `Vec`.
fn shape(ty: &Type) -> (&Type, bool, bool) {
    match inside(ty) {
        Some((outer, inner)) if outer == "Option" => (inner, true, false),
        Some((outer, inner)) if outer == "Vec" => (inner, false, true),
        _ => (ty, false, false),
    }
}

fn inside(ty: &Type) -> Option<(String, &Type)> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        syn::GenericArgument::Type(inner) => Some((last.ident.to_string(), inner)),
        _ => None,
    }
}

enum Kind {
    String,
    File,
    Integer { min: i64, max: u64 },
    Number,
    Boolean,
    Choice(Vec<LitStr>),
}

/// What a field of this type takes.
fn kind(ty: &Type, said: &Said) -> Result<Kind> {
    let name = match ty {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        _ => String::new(),
    };
    let range = match name.as_str() {
        "u8" => Some((0, u64::from(u8::MAX))),
        "u16" => Some((0, u64::from(u16::MAX))),
        // What a program is compiled for has 32 bits.
        "u32" | "usize" => Some((0, u64::from(u32::MAX))),
        "u64" => Some((0, u64::MAX)),
        "i8" => Some((i64::from(i8::MIN), i8::MAX as u64)),
        "i16" => Some((i64::from(i16::MIN), i16::MAX as u64)),
        "i32" | "isize" => Some((i64::from(i32::MIN), i32::MAX as u64)),
        "i64" => Some((i64::MIN, i64::MAX as u64)),
        _ => None,
    };
    let wrong = |words: &str| Err(Error::new(ty.span(), words));
    let is_text = name == "String";
    if !is_text && (said.is_file || !said.choices.is_empty()) {
        return wrong("`file` and `choices` are for a `String`");
    }
    match (range, name.as_str()) {
        (Some((min, max)), _) => {
            let (min, max) = (said.min.unwrap_or(min).max(min), said.max.unwrap_or(max).min(max));
            Ok(Kind::Integer { min, max })
        }
        _ if said.min.is_some() || said.max.is_some() => wrong("`min` and `max` are for whole numbers"),
        (None, "String") if said.is_file => Ok(Kind::File),
        (None, "String") if !said.choices.is_empty() => Ok(Kind::Choice(said.choices.clone())),
        (None, "String") => Ok(Kind::String),
        (None, "f32" | "f64") => Ok(Kind::Number),
        (None, "bool") => Ok(Kind::Boolean),
        _ => wrong(
            "expected `String`, `bool`, a whole number, `f32` or `f64`, or one of them in an `Option` or a `Vec`",
        ),
    }
}

impl Kind {
    fn tokens(&self) -> TokenStream {
        match self {
            Kind::String => quote! { ::inferlet::manifest::Kind::String },
            Kind::File => quote! { ::inferlet::manifest::Kind::File },
            Kind::Number => quote! { ::inferlet::manifest::Kind::Number },
            Kind::Boolean => quote! { ::inferlet::manifest::Kind::Boolean },
            Kind::Integer { min, max } => {
                quote! { ::inferlet::manifest::Kind::Integer { min: #min, max: #max } }
            }
            Kind::Choice(of) => quote! {
                ::inferlet::manifest::Kind::Choice {
                    of: ::std::borrow::Cow::Borrowed(&[#(::std::borrow::Cow::Borrowed(#of)),*]),
                }
            },
        }
    }
}

/// A default as a user would write it: an expression that is a text. It is of the parameter's kind.
fn default_text(default: &Expr, kind: &Kind, is_list: bool) -> Result<TokenStream> {
    let wrong = |words: &str| Err(Error::new_spanned(default, words));
    let literal = match default {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    };
    match (kind, literal) {
        // Its values are compared with the kind when the program is loaded.
        (_, Some(Lit::Str(text))) if is_list => Ok(text.into_token_stream()),
        _ if is_list => wrong("expected a text of values with commas between"),
        (Kind::Choice(of), Some(Lit::Str(text))) => match of.iter().any(|one| one.value() == text.value()) {
            true => Ok(text.into_token_stream()),
            false => wrong("expected one of the choices"),
        },
        (Kind::String | Kind::File, Some(Lit::Str(text))) => Ok(text.into_token_stream()),
        (Kind::String | Kind::File, None) => Ok(default.into_token_stream()),
        (Kind::Integer { min, max }, _) => {
            let number: i128 = whole(default)?;
            match (i128::from(*min)..=i128::from(*max)).contains(&number) {
                true => Ok(number.to_string().into_token_stream()),
                false => wrong("the default is out of range"),
            }
        }
        (Kind::Number, _) => {
            let text = default.to_token_stream().to_string().replace(' ', "");
            match text.parse::<f64>().is_ok_and(f64::is_finite) {
                true => Ok(text.into_token_stream()),
                false => wrong("expected a number"),
            }
        }
        _ => wrong("expected a text"),
    }
}
