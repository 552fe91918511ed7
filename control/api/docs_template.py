"""The page behind `/docs`, as a Jinja template."""

from __future__ import annotations

TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ info.title }} {{ info.version }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --accent: #7aa7ff; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: flex; }
nav { flex: 0 0 17rem; height: 100vh; position: sticky; top: 0; overflow: auto; padding: 1rem;
      box-sizing: border-box; border-right: 1px solid var(--line); font-size: 14px; }
nav a { display: block; padding: .1rem 0; text-decoration: none; color: inherit; }
nav a:hover { color: var(--accent); }
main { flex: 1; min-width: 0; max-width: 56rem; padding: 1rem 2rem 6rem; }
h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
section { margin: 2rem 0; scroll-margin-top: 1rem; }
h3 { margin-bottom: .2rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem 1rem; overflow: auto; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
         border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
.method { font-weight: 700; color: var(--accent); }
.required { color: #c2410c; font-size: 12px; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; } }
</style>
</head>
<body>
<nav>
<strong>{{ info.title }}</strong>
{% for group, operations in groups.items() %}
<p><strong>{{ group }}</strong>
{% for operation in operations %}
<a href="#{{ operation.id }}">{{ operation.summary }}</a>
{% endfor %}
</p>
{% endfor %}
<p><a href="#problems"><strong>Errors</strong></a><a href="#schemas"><strong>Objects</strong></a>
<a href="/openapi.json">OpenAPI document</a></p>
</nav>
<main>
<h1>{{ info.title }} {{ info.version }}</h1>
<p>{{ info.description }}</p>
<pre>export TANDEM_URL=http://127.0.0.1:8080   # control.listen
export TANDEM_KEY=...                     # control.admin_key</pre>
{% for group, operations in groups.items() %}
<h2>{{ group }}</h2>
{% for operation in operations %}
<section id="{{ operation.id }}">
<h3>{{ operation.summary }}</h3>
<p><code><span class="method">{{ operation.method }}</span> {{ operation.path }}</code></p>
{% if operation.description %}<p>{{ operation.description }}</p>{% endif %}
<pre>{{ operation.curl }}</pre>
{% if operation.parameters %}
<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>
{% for given in operation.parameters %}
<tr><td><code>{{ given.name }}</code></td><td>{{ given.where }}</td><td>{{ given.type }}</td>
<td>{{ given.about }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% if operation.fields %}
<table><tr><th>Body field</th><th>Type</th><th></th></tr>
{% for field in operation.fields %}
<tr><td><code>{{ field.name }}</code>
{% if field.is_required %}<span class="required">required</span>{% endif %}</td>
<td>{{ field.type }}</td><td>{{ field.about }}</td></tr>
{% endfor %}
</table>
{% endif %}
<table><tr><th>Answer</th><th>Body</th><th></th></tr>
{% for given in operation.answers %}
<tr><td>{{ given.status }}</td><td>{% if given.schema %}
<a href="#schema-{{ given.schema }}">{{ given.schema }}</a>{% else %}{{ given.media }}{% endif %}</td>
<td>{{ given.about }}</td></tr>
{% endfor %}
</table>
</section>
{% endfor %}
{% endfor %}
<h2 id="problems">Errors</h2>
<p>Every error is <code>application/problem+json</code> (RFC 9457):
<code>type, title, status, detail, instance</code>, and <code>errors: [{field, detail}]</code> where a
field is to blame. The kinds:</p>
{% for name, kind in kinds.items() %}
<section id="problem-{{ name }}">
<h3>{{ kind.status }} {{ kind.title }}</h3>
<p><code>{{ name }}</code>: {{ kind.meaning }}</p>
</section>
{% endfor %}
<h2 id="schemas">Objects</h2>
{% for schema in schemas %}
<section id="schema-{{ schema.name }}">
<h3>{{ schema.name }}</h3>
<p>{{ schema.about }}</p>
{% if schema.fields %}
<table><tr><th>Field</th><th>Type</th><th></th></tr>
{% for field in schema.fields %}
<tr><td><code>{{ field.name }}</code></td><td>{{ field.type }}</td><td>{{ field.about }}</td></tr>
{% endfor %}
</table>
{% endif %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
