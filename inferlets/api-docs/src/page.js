// The document is shown as it is; nobody else is asked whether it is valid.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null });
