"""The demo: a narrated video of seven scenes, made by three workers through an Interlock server."""
