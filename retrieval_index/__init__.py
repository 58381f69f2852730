"""The clip library: a video-caption corpus becomes LanceDB tables, and motions find their clips.

`retrieval_index.build` makes the tables with Ray Data, `retrieval_index.search` asks them,
`retrieval_index.clips` reads the frames of an answer. Nothing here trains or renders.
"""
